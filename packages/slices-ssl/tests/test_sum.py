"""Sums of objectives: each part as it is alone, some sharing a view, or all on one."""

from __future__ import annotations

import pytest
import torch

from slices.ssl import build_ssl_objective
from slices.ssl.encoding import complete

SHARED = {"d_input": 5, "static_columns": (0,)}
DYNAMIC = torch.arange(5) > 0


def build(make, encoder="StepTokens", **options):
    return build_ssl_objective(make(encoder), {**SHARED, **options})


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_sum_is_the_weighted_sum_of_its_parts(make, batch):
    encoder = make("StepTokens")
    parts = {"mae": {"weight": 2.0}, "jepa": {"weight": 0.5, "block_length": 2}, "vicreg": {}}
    objective = build_ssl_objective(encoder, {**SHARED, "name": "sum", "parts": parts})
    draw = objective.draw(*batch[:4], generator=seeded())
    loss, metrics = objective(*batch, draw=draw)
    alone = [part(*batch, draw=one)[0] for part, one in zip(objective.parts.values(), draw, strict=True)]
    assert torch.allclose(loss, 2 * alone[0] + 0.5 * alone[1] + alone[2])
    assert metrics["jepa/loss"] == alone[1] and "mae/reconstruction" in metrics
    assert all(part.encoder is encoder for part in objective.parts.values())


def test_parts_that_view_alike_share_the_draw_and_the_pass(make, batch):
    encoder = make("StepTokens")
    parts = {"vicreg": {}, "contrastive": {}, "byol": {}, "other": {"name": "vicreg", "views": {"crop": 0.5}}}
    objective = build_ssl_objective(encoder, {**SHARED, "name": "sum", "parts": parts})
    draw = objective.draw(*batch[:4], generator=seeded())
    assert len(draw) == 2
    encoder.lengths.clear()
    loss, _ = objective(*batch, draw=draw)
    assert len(encoder.lengths) == 2
    alone = sum(objective.parts[name](*batch, draw=draw[0])[0] for name in ("vicreg", "contrastive", "byol"))
    assert torch.allclose(loss, alone + objective.parts["other"](*batch, draw=draw[1])[0])


def test_parts_of_a_sum_that_mask_alike_share_a_pass(make, batch):
    encoder = make("StepTokens")
    mask = {"mask_ratio": 0.5, "block_length": 2}
    parts = {"mae": {"mask_mode": "block", **mask}, "jepa": mask}
    objective = build_ssl_objective(encoder, {**SHARED, "name": "sum", "parts": parts})
    encoder.lengths.clear()
    objective(*batch)
    assert len(encoder.lengths) == 1


def test_on_one_view_all_is_asked_of_one_pass(make, batch):
    encoder = make("StepTokens")
    parts = {"mae": {"weight": 2.0}, "forecast": {"min_hours": 1.0}, "time_to_event": {"min_hours": 1.0}}
    objective = build_ssl_objective(encoder, {**SHARED, "name": "sum", "one_view": True, "parts": parts})
    draw = objective.draw(*batch[:4], generator=seeded())
    encoder.lengths.clear()
    loss, metrics = objective(*batch, draw=draw)
    assert len(encoder.lengths) == 1
    seen = objective.see(*batch, draw=draw)
    alone = [
        objective.parts[name].score(of)[0]
        for name, of in zip(parts, (seen[1], seen[0], seen[0]), strict=True)
    ]
    assert torch.allclose(loss, 2 * alone[0] + alone[1] + alone[2])
    assert metrics["mae/loss"] == alone[0] and "forecast/forecast" in metrics


@pytest.mark.parametrize("mode", ["time", "block", "element", "variable", "mixed"])
def test_one_view_shows_nothing_of_what_it_hides(make, batch, mode):
    mae = {"mask_mode": mode, "block_length": 2, "presence_weight": 0.1}
    parts = {"mae": mae, "time_to_event": {"min_hours": 1.0}}
    objective = build(make, name="sum", one_view=True, parts=parts)
    for seed in range(5):
        draw = objective.draw(*batch[:4], generator=seeded(seed))
        seen = objective.see(*batch, draw=draw)
        gone = seen.masked.hidden
        later = batch.times >= draw.cut.hour(batch.times)
        other = batch._replace(
            x=torch.where(gone, batch.x + 9.0, batch.x),
            counts=torch.where(gone, batch.counts + 3, batch.counts),
            times=torch.where(later, batch.times + 5.0, batch.times),
        )
        again = objective.see(*other, draw=draw)
        assert torch.equal(again.cut.tokens.valid, seen.cut.tokens.valid)
        valid = seen.cut.tokens.valid
        assert torch.equal(again.cut.tokens.embedding[valid], seen.cut.tokens.embedding[valid])


def test_one_view_shows_a_part_of_the_past(make, batch):
    """All else is reconstructed; of the past something stays, if there are two usable steps."""
    parts = {"mae": {"mask_ratio": 0.5}, "time_to_event": {"min_hours": 1.0}}
    objective = build(make, name="sum", one_view=True, parts=parts)
    inputs = complete(*batch)
    usable = (inputs.mask & DYNAMIC).any(-1)
    for seed in range(20):
        draw = objective.draw(*batch[:4], generator=seeded(seed))
        seen, hour = objective.see(*batch, draw=draw).masked, draw.cut.hour(inputs.times)
        for b in range(5):
            past = [t for t in range(12) if usable[b, t] and inputs.times[b, t] < hour[b, 0]]
            future = [t for t in range(12) if usable[b, t] and inputs.times[b, t] >= hour[b, 0]]
            hidden = [t for t in past if seen.hidden[b, t, DYNAMIC].all()]
            assert future and all(seen.hidden[b, t, DYNAMIC].all() for t in future)
            assert (0 < len(hidden) < len(past)) if len(past) > 1 else len(hidden) == 0


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"mae": {}, "vicreg": {}, "forecast": {}}, "parts.vicreg neither cuts stays nor masks them"),
        ({"mae": {}}, "no part is there to cut stays"),
        ({"forecast": {}}, "no part is there to mask stays"),
        ({"mae": {}, "forecast": {}, "time_to_event": {}}, r"that cut stays .*forecast \(12.0,\)"),
        ({"mae": {}, "jepa": {}, "forecast": {}}, "that mask stays do so each in its own way"),
        (
            {"mae": {}, "m": {"name": "mae", "presence_weight": 0.1}, "forecast": {}},
            "presence_weight of all or none",
        ),
        ({"duett": {}, "forecast": {}}, "parts.duett neither cuts stays nor masks them"),
    ],
)
def test_parts_without_a_view_in_common_are_refused(make, parts, message):
    with pytest.raises(ValueError, match=message):
        build(make, name="sum", one_view=True, parts=parts)


def test_a_part_with_labels_gets_them(make, batch):
    parts = {"supervised_contrastive": {}, "mae": {}}
    objective = build(make, name="sum", parts=parts)
    draw = objective.draw(*batch[:4])
    label = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1])
    assert objective(*batch, draw=draw, label=label)[0] != objective(*batch, draw=draw)[0]
