"""What an objective says of values that it was not shown is what its loss is of."""

import pytest
import torch

from slices.ssl import Predicted, build_ssl_objective

SHARED = {"d_input": 5, "static_columns": (0,)}


@pytest.mark.parametrize("name", ["mae", "duett", "forecast"])
def test_the_loss_is_of_these_values(name, make, batch):
    objective = build_ssl_objective(make("StepTokens"), {**SHARED, "name": name}).eval()
    draw = objective.draw(*batch[:4], generator=torch.Generator().manual_seed(0))
    found = objective.predict_values(*batch, draw=draw)
    _, metrics = objective(*batch, draw=draw)
    loss, _ = objective(*batch, draw=draw)
    scored = found.asked & batch.mask & batch.padding_mask.unsqueeze(-1)
    assert scored.any() and not found.asked[..., 0].any()  # the static is never asked for
    if name != "forecast":
        error = (found.values - batch.x)[scored].square().mean()
        torch.testing.assert_close(metrics["reconstruction"], error)
        return
    n = scored.sum(1)
    mean = torch.where(scored, batch.x, 0.0).sum(1) / n.clamp(min=1)
    torch.testing.assert_close(loss, (found.values[:, 0] - mean)[n > 0].square().mean())


def test_a_sum_says_what_the_first_part_says_that_can(make, batch):
    config = {**SHARED, "name": "sum", "parts": {"vicreg": {}, "mae": {}}}
    objective = build_ssl_objective(make("StepTokens"), config).eval()
    found = objective.predict_values(*batch)
    assert isinstance(found, Predicted) and found.values.shape == found.asked.shape == batch.x.shape
    assert found.asked.any()


@pytest.mark.parametrize("config", [{"name": "jepa"}, {"name": "sum", "parts": {"vicreg": {}}}])
def test_one_that_predicts_no_values_says_so(config, make, batch):
    objective = build_ssl_objective(make("StepTokens"), {**SHARED, **config})
    assert not objective.predicts_values
    with pytest.raises(TypeError, match="predicts no values: mae, duett and forecast do"):
        objective.predict_values(*batch)
