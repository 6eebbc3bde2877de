"""What MAE and JEPA ask of what they hide."""

from __future__ import annotations

import torch

from slices.ssl import build_ssl_objective
from slices.ssl.encoding import STAY, STEP, Tokens, complete, hide
from slices.ssl.latent import hidden_tokens, spread_of_stays
from slices.ssl.masking import MaskDraw

SHARED = {"d_input": 5, "static_columns": (0,)}
DYNAMIC = torch.arange(5) > 0


def test_mae_scores_the_hidden_observed_dynamic_values_and_no_others(make, batch):
    objective = build_ssl_objective(make("StepTokens"), {**SHARED, "name": "mae"})
    draw = objective.draw(*batch[:4])
    inputs = complete(*batch)
    tokens = objective.encode(hide(inputs, draw.keep, objective.dynamic))
    predicted = objective.reconstruct.decoder(tokens, batch.times, torch.full((8, 12), -1))
    scored = inputs.mask & ~draw.keep & (torch.arange(5) > 0)
    loss, metrics = objective(*batch, draw=draw)
    assert torch.allclose(loss, (predicted - batch.x)[scored].square().mean())
    assert metrics["reconstruction"] == loss
    assert torch.allclose(metrics["hidden"], scored.sum() / (inputs.mask & objective.dynamic).sum())


def test_mae_encodes_the_visible_steps_only(make, batch):
    encoder = make("StepTokens")
    objective = build_ssl_objective(encoder, {**SHARED, "name": "mae", "mask_ratio": 0.75})
    objective(*batch)
    assert encoder.lengths == [3]  # a quarter of 12


def test_presence_has_its_weight(make, batch):
    encoder = make("StepTokens")
    objective = build_ssl_objective(encoder, {**SHARED, "name": "mae", "presence_weight": 0.25})
    loss, metrics = objective(*batch)
    assert metrics["presence"] > 0
    assert torch.allclose(loss, metrics["reconstruction"] + 0.25 * metrics["presence"])


def test_jepa_predicts_the_teachers_tokens_of_hidden_observed_steps(make, batch):
    objective = build_ssl_objective(make("StepTokens"), {**SHARED, "name": "jepa", "block_length": 2})
    draw = objective.draw(*batch[:4])
    inputs = complete(*batch)
    target = objective.predict.teacher.model(*inputs)
    context = objective.encode(hide(inputs, draw.keep, objective.dynamic))
    predicted = objective.predict.predictor(context, batch.times, torch.full((8, 12), -1))
    hidden = (inputs.mask & ~draw.keep)[..., 1:].any(-1)
    target = torch.nn.functional.layer_norm(target, (8,))
    wanted = torch.nn.functional.smooth_l1_loss(predicted[hidden], target[hidden])
    assert torch.allclose(objective(*batch, draw=draw)[0], wanted, atol=1e-6)


def test_jepas_target_std_sees_a_collapse(make, batch):
    healthy = build_ssl_objective(make("StepTokens"), {**SHARED, "name": "jepa"})
    collapsed = build_ssl_objective(make("StepTokens"), {**SHARED, "name": "jepa"})
    with torch.no_grad():
        for parameter in collapsed.predict.teacher.parameters():
            parameter.zero_()
        collapsed.predict.teacher.model.embed.bias.copy_(torch.randn(8))
    full = batch._replace(padding_mask=torch.ones_like(batch.padding_mask))
    assert collapsed(*full)[1]["target_std"] < 1e-6
    assert healthy(*full)[1]["target_std"] > 0.05


def test_jepa_does_not_ask_for_tokens_of_statics(make, batch):
    encoder = make("ObservationTokens")
    objective = build_ssl_objective(encoder, {**SHARED, "name": "jepa", "block_length": 2})
    hide_first = torch.arange(12).expand(8, 12) != batch.padding_mask.int().argmax(-1, keepdim=True)
    draw = MaskDraw(hide_first.unsqueeze(-1))  # the step that has the statics is hidden
    seen, tokens = objective.see(*batch, draw=draw), encoder.encode(*complete(*batch))
    asked = hidden_tokens(tokens, seen.inputs, seen.inputs.mask & seen.hidden)
    assert asked[tokens.variable > 0].any() and not asked[tokens.variable == 0].any()


def test_a_token_of_several_steps_is_hidden_where_one_of_its_cells_is(batch):
    inputs, hidden = complete(*batch), torch.rand(8, 12, 5) < 0.1
    hidden &= inputs.mask
    begins = [0, 3, 4, 9]
    kinds = [STEP, 2, 3]
    places = [(begin, kind) for begin in begins for kind in kinds] + [(0, STAY), (0, 4)]
    step = torch.tensor([place[0] for place in places]).expand(8, -1)
    tokens = Tokens(
        embedding=torch.randn(8, len(places), 4),
        valid=batch.padding_mask.gather(1, step),
        time=batch.times.gather(1, step),
        variable=torch.tensor([place[1] for place in places]).expand(8, -1),
    )
    found = hidden_tokens(tokens, inputs, hidden)
    for stay in range(8):
        there = {place for place, valid in zip(places, tokens.valid[stay].tolist(), strict=True) if valid}
        for n, (begin, kind) in enumerate(places):
            end = min((b for b, k in there if k == kind and b > begin), default=12)
            cells = hidden[stay] if kind == STAY else hidden[stay, begin:end]
            touched = bool((cells[:, kind] if kind >= 0 else cells).any())
            assert found[stay, n] == ((begin, kind) in there and touched)


def test_stays_without_tokens_do_not_spread_the_targets():
    valid = torch.tensor([[True], [True], [False]])
    same = Tokens(torch.ones(3, 1, 4).cumsum(-1), valid, torch.zeros(3, 1), torch.zeros(3, 1).long())
    assert spread_of_stays(same) < 1e-6


def test_mae_can_tell_presence_of_elements(make, batch):
    objective = build_ssl_objective(
        make("StepTokens"), {**SHARED, "name": "mae", "mask_mode": "element", "presence_weight": 0.5}
    )
    draw = objective.draw(*batch[:4], generator=torch.Generator().manual_seed(0))
    hidden = ~draw.keep & batch.padding_mask.unsqueeze(-1) & DYNAMIC
    assert (hidden & ~batch.mask).any() and (hidden & batch.mask).any()
    loss, metrics = objective(*batch, draw=draw)
    assert torch.allclose(loss, metrics["reconstruction"] + 0.5 * metrics["presence"])
