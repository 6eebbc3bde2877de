"""What is particular to one objective."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

from slices.ssl import build_ssl_objective
from slices.ssl.encoding import complete, hide
from slices.ssl.latent import evenly
from slices.ssl.objectives.duett import BinAndVariableViewing
from slices.ssl.objectives.time_to_event import next_events
from slices.ssl.objectives.ts2vec import OverlapViewing
from slices.ssl.viewing import CutViewing

SHARED = {"d_input": 5, "static_columns": (0,)}
DYNAMIC = torch.arange(5) > 0


def build(make, encoder="StepTokens", **options):
    return build_ssl_objective(make(encoder), {**SHARED, **options})


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# forecast and time_to_event


@pytest.mark.parametrize("name", ["forecast", "time_to_event"])
def test_the_encoder_sees_nothing_from_the_cut_on(name, make, batch):
    objective = build(make, "Spy", name=name, min_hours=1.0)
    draw = objective.draw(*batch[:4], generator=seeded())
    objective(*batch, draw=draw)
    seen = objective.see(*batch, draw=draw)
    shown = objective.encoder.shown
    late = batch.times >= seen.hour
    assert late.any() and not (shown["mask"][..., 1:] & late.unsqueeze(-1)).any()
    assert not (shown["x"][..., 1:] * late.unsqueeze(-1)).any()
    assert not (shown["padding_mask"] & late & (batch.mask & DYNAMIC).any(-1)).any()
    other = batch._replace(x=torch.where(late.unsqueeze(-1), batch.x + 100, batch.x))
    before = shown["x"].clone()
    objective(*other, draw=draw)
    assert torch.equal(before, objective.encoder.shown["x"])


def test_cuts_have_something_on_both_sides(batch):
    inputs, viewing = complete(*batch), CutViewing(min_hours=2.0)
    usable = (inputs.mask & DYNAMIC).any(-1)
    seen = set()
    for seed in range(20):
        step = viewing.draw(inputs, DYNAMIC, seeded(seed)).step
        seen.add(tuple(step.flatten().tolist()))
        for stay, (at, can, times) in enumerate(zip(step[:, 0].tolist(), usable, inputs.times, strict=True)):
            if can.sum() < 2:
                assert at == 12
                continue
            assert can[at] and (can & (times < times[at])).any(), stay
            first = times[can].min()
            if (times[can].max() - first) >= 2.0:
                assert times[at] >= first + 2.0
    assert len(seen) > 10


def test_forecast_is_the_mean_of_the_next_hours(make, batch):
    objective = build(make, name="forecast", min_hours=1.0, horizon=1.5)
    draw = objective.draw(*batch[:4], generator=seeded())
    seen = objective.see(*batch, draw=draw)
    asked = seen.hour.masked_fill(seen.hour.isinf(), 0.0)
    predicted = objective.decoder(seen.tokens, asked, torch.full_like(asked, -1, dtype=torch.long))[:, 0]
    errors = []
    for b in range(8):
        hour = seen.hour[b].item()
        for d in range(1, 5):
            values = [
                seen.inputs.x[b, t, d]
                for t in range(12)
                if seen.inputs.mask[b, t, d] and hour <= batch.times[b, t] < hour + 1.5
            ]
            if values:
                errors.append((predicted[b, d] - torch.stack(values).mean()) ** 2)
    assert torch.allclose(objective(*batch, draw=draw)[0], torch.stack(errors).mean())


def test_next_events_are_those_of_a_loop(batch):
    inputs, bins = complete(*batch), torch.tensor([0.4, 0.8, 1.5, 3.0])
    hour = torch.tensor([1.0, 2.0, 0.5, 1.5, 3.0, torch.inf, torch.inf, torch.inf]).unsqueeze(1)
    found = next_events(inputs, DYNAMIC, hour, bins, abnormal=0.5)
    kinds = set()
    for b in range(8):
        end = max([inputs.times[b, t].item() for t in range(12) if inputs.padding_mask[b, t]], default=-1)
        for d in range(5):
            events = [
                (inputs.times[b, t].item(), inputs.x[b, t, d].item())
                for t in range(12)
                if inputs.mask[b, t, d] and DYNAMIC[d] and inputs.times[b, t] >= hour[b, 0]
            ]
            delay = events[0][0] - hour[b, 0].item() if events else float("inf")
            in_bin = sum(delay >= edge for edge in bins.tolist())
            followed = sum(end - hour[b, 0].item() >= edge for edge in bins.tolist()) - 1
            assert found.bin[b, d] == in_bin and found.seen[b, d] == (in_bin < 4)
            if d == 0:
                assert found.last[b, d] == -1
            else:
                assert found.last[b, d] == followed
            if in_bin < 4:
                value = events[0][1]
                assert found.mark[b, d] == (2 if value > 0.5 else 0 if value < -0.5 else 1)
            kinds.add((in_bin < 4, found.last[b, d].item() > in_bin))
    assert len(kinds) >= 2


def test_hazards_of_stays_that_end_are_not_biased():
    """Of measurements at a constant rate the loss is least at that rate, in bins followed in part too."""
    n, hours, rate = 40_000, 12, 0.1
    mask = torch.rand(n, hours, 1, generator=seeded()) < rate
    ends = torch.randint(4, hours + 1, (n, 1), generator=seeded(1))
    inputs = complete(mask.float(), mask, torch.arange(hours) < ends)
    bins = torch.tensor([1.0, 2.0, 4.0, 8.0])
    found = next_events(inputs, torch.ones(1, dtype=torch.bool), torch.zeros(n, 1), bins, abnormal=1.0)
    for k, width in enumerate((1, 1, 2, 4)):
        at_risk = (k <= torch.minimum(found.bin, found.last)).squeeze(-1)
        share = (found.bin.squeeze(-1) == k)[at_risk].float().mean()
        assert abs(share - (1 - (1 - rate) ** width)) < 0.015


def test_the_loss_is_an_average_over_variables_with_statics_or_without():
    """Without statics ``dynamic`` is one flag for all variables."""
    losses = []
    for static in ((), (0,)):
        torch.manual_seed(0)
        encoder = nn.Linear(42, 8)
        encoder.output_dim = 8
        options = {"name": "time_to_event", "d_input": 42, "static_columns": static}
        objective = build_ssl_objective(encoder, options)
        torch.manual_seed(0)
        x, mask = torch.randn(16, 24, 42), torch.rand(16, 24, 42) < 0.4
        _, metrics = objective(x, mask, draw=objective.draw(x, mask, generator=seeded()))
        losses.append(metrics["event"].item())
    assert losses[0] == pytest.approx(losses[1], rel=0.1)


# duett


def test_what_is_missing_does_not_tell_what_was_measured():
    """Where presence is asked for, hidden steps and steps without a measurement look alike."""
    mask = torch.rand(400, 24, 5, generator=seeded()) < 0.1
    inputs = complete(mask.float(), mask)
    for objective in ("duett", "mae"):
        options = {"mask_mode": "element", "presence_weight": 0.1} if objective == "mae" else {}
        encoder = torch.nn.Linear(5, 8)
        encoder.output_dim = 8
        viewing = build_ssl_objective(encoder, {"name": objective, "d_input": 5, **options}).viewing
        draw = viewing.draw(inputs, torch.ones(1, dtype=torch.bool), seeded(1))
        shown = hide(inputs, draw.keep, torch.ones(1, dtype=torch.bool), viewing.only_observed)
        gone = ~shown.padding_mask
        assert viewing.only_observed and (gone & ~mask.any(-1)).any() and (gone & mask.any(-1)).any()
        assert torch.equal(shown.padding_mask, shown.mask.any(-1))


def test_duett_hides_one_bin_and_one_variable(batch):
    inputs, viewing = complete(*batch), BinAndVariableViewing(n_bins=4)
    observed = inputs.mask & DYNAMIC
    for seed in range(20):
        keep = viewing.draw(inputs, DYNAMIC, seeded(seed)).keep.expand(observed.shape)
        for visible, cells, times in zip(keep, observed, inputs.times, strict=True):
            if cells.any(-1).sum() < 2:
                assert (visible | ~cells).all()
                continue
            hidden = cells & ~visible
            assert 0 < hidden.sum() < cells.sum()
            whole_steps = [t for t in range(12) if cells[t].any() and not (cells[t] & visible[t]).any()]
            others = {d for t, d in hidden.nonzero().tolist() if t not in whole_steps}
            assert len(others) <= 1
            span = times[cells.any(-1)].max() - times[cells.any(-1)].min()
            in_bin = [t for t in whole_steps if cells[t].sum() > 1]
            assert not in_bin or times[in_bin].max() - times[in_bin].min() <= span / 4 + 1e-5


# smart


def test_smart_asks_for_the_teachers_latents_of_hidden_cells(make, batch):
    objective = build(make, "ObservationTokens", name="smart")
    draw = objective.draw(*batch[:4], generator=seeded())
    seen = objective.see(*batch, draw=draw)
    target = objective.predict.read(objective.predict.teacher.model, seen.inputs)
    predicted = objective.predict.predictor(seen.tokens, target.time, target.variable)
    hidden = seen.inputs.mask & ~draw.keep & DYNAMIC
    scored = torch.cat([hidden.flatten(1).any(1, keepdim=True), hidden.flatten(1)], dim=1) & target.valid
    wanted = torch.nn.functional.layer_norm(target.embedding, (8,))
    loss = torch.nn.functional.smooth_l1_loss(predicted[scored], wanted[scored])
    assert torch.allclose(objective(*batch, draw=draw)[0], loss, atol=1e-6)


def test_of_many_hidden_tokens_some_are_asked_for_evenly_spread():
    where = torch.rand(50, 40, generator=seeded()) < torch.linspace(0, 1, 50).unsqueeze(1)
    index, exists = evenly(where, 10)
    for row, places, there in zip(where, index, exists, strict=True):
        chosen, all_of_them = places[there].tolist(), row.nonzero().flatten().tolist()
        assert len(chosen) == min(len(all_of_them), 10) == len(set(chosen))
        ranks = [all_of_them.index(place) for place in chosen]
        gaps = [b - a for a, b in pairwise([*ranks, len(all_of_them)])]
        assert not gaps or max(gaps) - min(gaps) <= 1


# ts2vec


def test_ts2vecs_crops_overlap(batch):
    inputs = complete(torch.ones(300, 12, 5), torch.ones(300, 12, 5, dtype=torch.bool))
    first, second = OverlapViewing(0.0).draw(inputs, torch.ones(1, dtype=torch.bool), seeded())
    one, two = (look.keep.all(-1) for look in (first, second))
    for crop in (one, two, one & two):
        assert ((crop[:, 1:] != crop[:, :-1]).sum(1) <= 2).all() and (crop.sum(1) >= 2).all()
    assert (one.int().argmax(1) <= two.int().argmax(1)).all()
    assert not torch.equal(one, two) and (one & two).sum(1).unique().numel() > 8
    assert torch.equal(first.statics, ~second.statics)


# neighbourhood


def test_windows_know_when_they_begin_and_whose_they_are(make, batch):
    objective = build(make, name="neighbourhood", n_windows=3)
    draw = objective.draw(*batch[:4], generator=seeded())
    seen = objective.see(*batch, draw=draw)
    assert seen.stay.tolist() == [*range(8)] * 3 and seen.tokens.embedding.shape[0] == 2 * 3 * 8
    for w, pair in enumerate(draw.windows):
        begin = seen.hour.view(3, 8)[w]
        for b in range(8):
            inside = [t for t in range(12) if pair.first.keep[b, t].any() and batch.padding_mask[b, t]]
            assert begin[b] == (batch.times[b, inside[0]] if inside else 0)


def test_a_window_begins_where_it_was_cut_whatever_its_views_hide(make):
    mask = torch.ones(8, 24, 5, dtype=torch.bool)
    views = {"crop": 0.5, "mask_steps": 0.6}
    objective = build(make, name="neighbourhood", n_windows=2, views=views, static_columns=())
    window, _ = objective.draw(mask.float(), mask, generator=seeded()).windows
    firsts = torch.stack([look.keep.any(-1).int().argmax(-1) for look in (window.first, window.second)])
    assert (window.hour <= firsts).all() and (window.hour < firsts.amin(0)).any()
    assert (firsts[0] != firsts[1]).any()


# teachers and what moves with the optimizer


@pytest.mark.parametrize("name", ["byol", "dino", "jepa", "smart"])
def test_a_teacher_moves_once_an_optimizer_step_and_is_in_the_checkpoint(name, make, batch):
    objective = build(make, name=name, momentum=0.5).train()
    state = {key: value.clone() for key, value in objective.state_dict().items() if "teacher" in key}
    assert state and not any(m.training for m in objective.modules() if type(m).__name__ == "Teacher")
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        objective(*batch)[0].backward()
    optimizer.step()
    assert all(torch.equal(value, objective.state_dict()[key]) for key, value in state.items())
    objective.on_optimizer_step(1, 10**9)
    moved = objective.state_dict()
    assert any(not torch.equal(value, moved[key]) for key, value in state.items())
    fresh = build(make, name=name)
    fresh.load_state_dict(moved)
    draw = objective.draw(*batch[:4])
    assert torch.equal(objective.eval()(*batch, draw=draw)[0], fresh.eval()(*batch, draw=draw)[0])


def test_dinos_centre_follows_the_teachers_outputs_once_a_step_and_not_in_validation(make, batch):
    objective = build(make, name="dino", n_prototypes=8, centre_momentum=0.5).train()
    draw = objective.draw(*batch[:4])
    seen = objective.see(*batch, draw=draw)
    tokens = objective.read(objective.teacher.model, seen.wide.views, seen.wide.max_steps)
    weight = tokens.valid.unsqueeze(-1)
    pooled = (tokens.embedding * weight).sum(1) / weight.sum(1).clamp(min=1)
    wanted = objective.teacher_head.model(pooled)[seen.wide.valid.repeat(2)].mean(0) / 2
    objective(*batch, draw=draw)
    assert not objective.centre.any()
    objective.eval()(*batch)  # of other views: leaves no trace
    objective.on_optimizer_step(1, 10)
    assert torch.allclose(objective.centre, wanted, atol=1e-6)


def test_lejepas_directions_change_with_each_step_and_repeat_with_it(make):
    one, two = build(make, name="lejepa"), build(make, name="lejepa")
    start = one.directions.clone()
    one.on_optimizer_step(7, 100)
    assert not torch.equal(one.directions, start)
    two.load_state_dict(one.state_dict())
    assert torch.equal(one.directions, two.directions)
    one.on_optimizer_step(8, 100), two.on_optimizer_step(8, 100)
    assert torch.equal(one.directions, two.directions)
    assert torch.allclose(one.directions.norm(dim=-1), torch.ones(256))


# supervised contrast


def test_labels_draw_stays_of_a_class_together(make, batch):
    objective = build(make, name="supervised_contrastive")
    draw = objective.draw(*batch[:4])
    label = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1])
    with_labels = objective(*batch, draw=draw, label=label)[0]
    assert with_labels != objective(*batch, draw=draw)[0]
    unknown = label.float().masked_fill(torch.arange(8) < 4, torch.nan)
    masked = objective(*batch, draw=draw, label=label, label_mask=torch.arange(8) >= 4)[0]
    assert torch.equal(objective(*batch, draw=draw, label=unknown)[0], masked) and masked != with_labels
    with pytest.raises(ValueError, match=r"label_mask has shape \(8, 12\), label \(8,\)"):
        objective(*batch, draw=draw, label=label, label_mask=batch.padding_mask)
    with pytest.raises(ValueError, match=r"one class a stay, of shape \(8,\), got \(8, 3\)"):
        objective(*batch, label=torch.zeros(8, 3))


# all of them


def test_what_a_draw_is_made_of_leads_with_the_stays(objective_names, make, batch):
    for name in objective_names:
        options = {"parts": {"mae": {}, "dino": {}}} if name == "sum" else {}
        objective = build(make, name=name, **options)
        leaves = pytree.tree_leaves(objective.draw(*batch[:4]))
        assert leaves and all(len(leaf) == 8 for leaf in leaves), name


@pytest.fixture
def objective_names():
    from slices.ssl import list_objectives

    return list_objectives()


def test_hiding_a_cut_leaves_statics(batch):
    inputs = complete(*batch)
    shown = hide(inputs, (inputs.times < 1.0).unsqueeze(-1), DYNAMIC)
    assert torch.equal(shown.mask[..., 0].any(1), inputs.mask[..., 0].any(1))
