"""Reading tokens from any encoder, and hiding at its input."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from slices.ssl import TokenReader, Tokens, accepted_inputs, check_encoder
from slices.ssl.encoding import (
    StayInputs,
    complete,
    first_true,
    hide,
    pool_stay,
    pool_steps,
    step_of,
    take_steps,
)

DYNAMIC = torch.tensor([False, True, True, True, True])


def test_what_is_missing_is_filled_in(batch):
    inputs = complete(batch.x, batch.mask)
    assert inputs.padding_mask.all()
    assert torch.equal(inputs.times, torch.arange(12.0).expand(8, 12))
    assert torch.equal(inputs.counts, batch.mask.float())
    assert not inputs.x[~batch.mask].any()


def test_padding_is_unobserved(batch):
    mask = torch.ones_like(batch.mask)
    inputs = complete(torch.full_like(batch.x, torch.nan), mask, batch.padding_mask)
    assert torch.equal(inputs.mask.any(-1), batch.padding_mask)


@st.composite
def hidings(draw):
    """(inputs, keep, dynamic), with statics, where there are any, at the first real step."""
    steps, width = draw(st.integers(1, 8)), draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    dynamic = torch.arange(width) >= draw(st.integers(0, width - 1))
    padding_mask = torch.rand(6, steps, generator=generator) < draw(st.sampled_from([0.4, 0.8, 1.1]))
    mask = torch.rand(6, steps, width, generator=generator) < draw(st.sampled_from([0.1, 0.5, 1.1]))
    mask &= dynamic | (padding_mask.cumsum(-1) == 1).unsqueeze(-1)
    shape = draw(st.sampled_from([(6, steps, 1), (6, 1, width), (6, steps, width)]))
    keep = torch.rand(shape, generator=generator) < draw(st.sampled_from([-1, 0.3, 0.7]))
    x, counts = torch.randn(2, *mask.shape, generator=generator)
    times = 1 + torch.rand(6, steps, generator=generator).cumsum(-1)
    everything = torch.ones(1, dtype=torch.bool)
    return complete(x, mask, padding_mask, times, counts), keep, everything if dynamic.all() else dynamic


def hide_slowly(inputs, keep, dynamic):
    """What :func:`hide` shows, cell by cell."""
    keep, dynamic = keep.expand(inputs.mask.shape), dynamic.expand(inputs.mask.shape[-1])
    shown = StayInputs(*(torch.zeros_like(field) for field in inputs))
    for stay in range(len(inputs.x)):
        cells, left = [], []  # a cell is (step to show, step it comes from, column)
        real = inputs.padding_mask[stay].nonzero().flatten().tolist()
        for step in real:
            seen = [v for v in range(len(dynamic)) if dynamic[v] and inputs.mask[stay, step, v]]
            kept = [v for v in seen if keep[stay, step, v]]
            cells += [(step, step, v) for v in kept]
            left += [step] if kept or (not seen and keep[stay, step].any()) else []
        statics = [
            v for v in range(len(dynamic)) if not dynamic[v] and real and inputs.mask[stay, real[0], v]
        ]
        left = left or real[: bool(statics)]
        cells += [(left[0], real[0], v) for v in statics]
        shown.padding_mask[stay, left] = True
        shown.times[stay, left] = inputs.times[stay, left]
        for there, here, v in cells:
            for new, old in ((shown.x, inputs.x), (shown.mask, inputs.mask), (shown.counts, inputs.counts)):
                new[stay, there, v] = old[stay, here, v]
    return shown


@given(hidings())
def test_hiding_against_a_loop(hiding):
    for shown, wanted in zip(hide(*hiding), hide_slowly(*hiding), strict=True):
        assert shown.dtype == wanted.dtype and torch.equal(shown, wanted)


def test_a_crop_has_its_statics_at_its_own_first_step(batch):
    inputs, crop = complete(*batch), torch.arange(12).view(1, 12, 1) >= 5
    shown = hide(inputs, crop, DYNAMIC)
    assert not shown.padding_mask[:, :5].any() and not shown.times[:, :5].any()
    for field in ("x", "mask", "counts"):
        assert torch.equal(getattr(shown, field)[:3, 5, 0], getattr(inputs, field)[:3, 0, 0])
    assert not shown.mask[:3, 6:, 0].any()


def test_an_empty_step_is_hidden_with_its_time():
    inputs = complete(torch.zeros(1, 3, 2), torch.zeros(1, 3, 2, dtype=torch.bool))
    shown = hide(inputs, torch.tensor([[[True], [False], [True]]]), torch.ones(1, dtype=torch.bool))
    assert shown.padding_mask.tolist() == [[True, False, True]]


@pytest.mark.parametrize("kind", ["StepTokens", "ObservationTokens"])
def test_leaving_steps_out_equals_hiding_them(kind, make, batch):
    encoder = make(kind)
    read = TokenReader(encoder)
    keep = torch.rand(8, 12, 1, generator=torch.Generator().manual_seed(0)) < 0.4
    shown = hide(complete(*batch), keep, DYNAMIC)
    n_visible = int(shown.padding_mask.sum(-1).max())
    short, whole = read(encoder, shown, n_visible), read(encoder, shown)
    assert encoder.lengths == [n_visible, 12]
    assert short.valid.sum() == whole.valid.sum() > 0
    assert torch.allclose(short.embedding[short.valid], whole.embedding[whole.valid], atol=1e-6)
    assert torch.equal(short.variable[short.valid], whole.variable[whole.valid])
    timed = [tokens.time[tokens.valid & (tokens.variable > -2)] for tokens in (short, whole)]
    assert torch.equal(*timed)


def test_steps_are_not_left_out_where_that_would_be_a_gap_unseen(make, batch):
    encoder = make("StepGRU")
    tokens = TokenReader(encoder)(encoder, complete(*batch), max_steps=6)
    assert tokens.embedding.shape == (8, 12, 8)


def test_every_encoder_gives_tokens(encoder, batch):
    inputs = complete(*batch)
    tokens = TokenReader(encoder)(encoder, inputs)
    batch_size, n_tokens, width = tokens.embedding.shape
    assert (batch_size, width) == (8, encoder.output_dim)
    assert tokens.valid.shape == tokens.time.shape == tokens.variable.shape == (8, n_tokens)
    assert not tokens.valid[7].any()
    if n_tokens == 12:
        assert torch.equal(tokens.valid, inputs.padding_mask) and (tokens.variable == -1).all()
    if n_tokens == 1:
        assert (tokens.variable == -2).all()


def test_a_wrong_shape_is_refused():
    encoder = nn.Linear(5, 8)
    encoder.output_dim = 7
    read = TokenReader(encoder)
    with pytest.raises(ValueError, match=r"returned \(2, 3, 8\); allowed are .*\(2, 3, 7\).*\(2, 7\)"):
        read(encoder, complete(torch.zeros(2, 3, 5), torch.ones(2, 3, 5, dtype=torch.bool)))


def test_signatures():
    class Named(nn.Module):
        def forward(self, x, mask, *, times=None, label=None):
            return x

    assert accepted_inputs(Named()) == {"mask", "times", "label"}
    assert accepted_inputs(lambda x: x) == set()
    assert accepted_inputs(lambda x, **rest: x) == {"mask", "padding_mask", "times", "counts"}


def test_the_checker_names_all_that_is_missing(make):
    class Lacking(nn.Module):
        def forward(self, x, lengths, mask):
            return x

    with pytest.raises(TypeError, match=r"Lacking.*`output_dim`.*default for `lengths`"):
        check_encoder(Lacking())
    with pytest.raises(TypeError, match=r"torch.nn.Module.*output_dim.*forward"):
        check_encoder(object())
    check_encoder(make("OnlyX"))


def test_first_true_and_take_steps_keep_order():
    where = torch.rand(20, 9, generator=torch.Generator().manual_seed(0)) < 0.5
    values = torch.randn(20, 9, 2)
    index = first_true(where, 9)
    taken = take_steps(values, index)
    for row in range(20):
        wanted = [*where[row].nonzero().flatten().tolist(), *(~where[row]).nonzero().flatten().tolist()]
        assert index[row].tolist() == wanted
        assert torch.equal(taken[row], values[row, wanted])
    assert torch.equal(take_steps(where, index[:, :4]), where.gather(1, index[:, :4]))


def test_a_step_is_found_by_its_time_wherever_the_padding_is(batch):
    found = step_of(batch.times, batch.times, batch.padding_mask)
    steps = torch.arange(12).expand(8, 12)
    assert torch.equal(found[batch.padding_mask], steps[batch.padding_mask])


def test_pooling_against_a_loop(batch):
    generator = torch.Generator().manual_seed(0)
    n_tokens = 30
    step = torch.randint(0, 12, (8, n_tokens), generator=generator)
    tokens = Tokens(
        embedding=torch.randn(8, n_tokens, 4, generator=generator),
        valid=batch.padding_mask.gather(1, step),
        time=batch.times.gather(1, step),
        variable=torch.randint(-2, 5, (8, n_tokens), generator=generator),
    )
    of_step, has_token = pool_steps(tokens, batch.times, batch.padding_mask)
    of_stay = pool_stay(tokens)
    for stay in range(8):
        mine = tokens.embedding[stay][tokens.valid[stay]]
        assert torch.allclose(of_stay[stay], mine.mean(0) if len(mine) else torch.zeros(4), atol=1e-6)
        for t in range(12):
            there = tokens.valid[stay] & (step[stay] == t) & (tokens.variable[stay] != -2)
            mine = tokens.embedding[stay][there]
            wanted = mine.mean(0) if len(mine) else torch.zeros(4)
            assert torch.allclose(of_step[stay, t], wanted, atol=1e-6)
            assert has_token[stay, t] == bool(len(mine))
