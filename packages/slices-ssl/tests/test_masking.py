"""What is hidden: how much, of what, and never all or none."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slices.ssl.masking import draw_keep, max_hidden_steps, max_visible_steps

MODES = ["time", "block", "element", "variable"]
RATIOS = st.floats(0.01, 0.99)


@st.composite
def stays(draw):
    """(mask, padding_mask, dynamic) with anything from nothing to everything observed."""
    steps, width = draw(st.integers(1, 20)), draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    rates = torch.rand(12, 1, 1, generator=generator) ** 2
    padding_mask = torch.rand(12, steps, generator=generator) < draw(st.sampled_from([0.5, 0.9, 1.1]))
    mask = torch.rand(12, steps, width, generator=generator) < rates
    dynamic = torch.ones(width, dtype=torch.bool)
    dynamic[0] = width == 1 or draw(st.booleans())
    return mask & padding_mask.unsqueeze(-1), padding_mask, dynamic


def rounded(n, ratio):
    return min(max(math.floor(n * round(ratio, 4) + 0.5), 1), n - 1)


@pytest.mark.parametrize("mode", MODES)
@given(stays(), RATIOS, st.integers(1, 6), st.integers(0, 2**31))
def test_never_all_or_none_of_a_stay_with_two_usable_steps(mode, given_stays, ratio, length, seed):
    mask, padding_mask, dynamic = given_stays
    generator = torch.Generator().manual_seed(seed)
    keep = draw_keep(mode, mask, padding_mask, dynamic, ratio, length, generator)
    observed = mask & dynamic
    hidden, left = (observed & ~keep).flatten(1).any(-1), (observed & keep).flatten(1).any(-1)
    n_usable = observed.any(-1).sum(-1)
    assert torch.equal(hidden, n_usable >= 2)
    assert torch.equal(left, n_usable >= 1)


@pytest.mark.parametrize("mode", ["time", "block"])
@given(stays(), RATIOS, st.integers(1, 6), st.integers(0, 2**31))
def test_step_masks_hide_exactly_their_share_of_the_real_steps(mode, given_stays, ratio, length, seed):
    mask, padding_mask, dynamic = given_stays
    generator = torch.Generator().manual_seed(seed)
    keep = draw_keep(mode, mask, padding_mask, dynamic, ratio, length, generator)
    assert keep.shape == (*padding_mask.shape, 1)
    hidden = ~keep.squeeze(-1)
    for stay, real, usable in zip(hidden, padding_mask, (mask & dynamic).any(-1), strict=True):
        n = int(real.sum())
        assert not (stay & ~real).any()
        assert int(stay.sum()) == (rounded(n, ratio) if n else 0)
        if usable.sum() >= 2:
            assert 0 < int((stay & usable).sum()) < int(usable.sum())
    steps = padding_mask.shape[1]
    assert hidden.sum(-1).max() <= max_hidden_steps(mode, ratio, steps)
    assert (padding_mask & ~hidden).sum(-1).max() <= max_visible_steps(mode, ratio, steps)


@given(stays(), RATIOS, st.integers(0, 2**31))
def test_element_masks_hide_exactly_their_share_of_the_observed_cells(given_stays, ratio, seed):
    mask, padding_mask, dynamic = given_stays
    generator = torch.Generator().manual_seed(seed)
    keep = draw_keep("element", mask, padding_mask, dynamic, ratio, generator=generator)
    observed = mask & dynamic
    assert (keep | dynamic).all()
    for stay, seen in zip(~keep, observed, strict=True):
        n = int(seen.sum())
        assert int((stay & seen).sum()) == (rounded(n, ratio) if seen.any(-1).sum() >= 2 else 0)


def test_element_masks_hide_as_large_a_share_of_what_was_not_observed():
    mask = torch.rand(50, 20, 8) < 0.3
    keep = draw_keep("element", mask, mask.any(-1) | True, torch.ones(1, dtype=torch.bool), 0.25)
    assert (~keep)[~mask].float().mean().item() == pytest.approx(0.25, abs=0.02)


@given(stays(), st.integers(0, 2**31))
def test_mixed_masks_hide_some_and_never_all(given_stays, seed):
    mask, padding_mask, dynamic = given_stays
    generator = torch.Generator().manual_seed(seed)
    keep = draw_keep("mixed", mask, padding_mask, dynamic, 0.5, 2, generator)
    for visible, seen in zip(keep, mask & dynamic, strict=True):
        if seen.any(-1).sum() >= 2:
            assert 0 < (visible & seen).sum() < seen.sum()
        else:
            assert (visible | ~seen).all()


def test_mixed_masks_are_of_all_kinds():
    mask = torch.ones(200, 12, 6, dtype=torch.bool)
    keep = draw_keep("mixed", mask, mask[..., 0], torch.ones(1, dtype=torch.bool), 0.5, 6)
    whole_steps = (keep.all(-1) | ~keep.any(-1)).all(-1)
    changes = (keep[:, 1:, 0] != keep[:, :-1, 0]).sum(-1)
    whole_variables = (keep.all(1) | ~keep.any(1)).all(-1)
    in_blocks = whole_steps & (changes <= 2)
    for share in (in_blocks, whole_steps & ~in_blocks, whole_variables, ~whole_steps & ~whole_variables):
        assert 0.15 < share.float().mean() < 0.35


def test_each_stay_has_a_ratio_of_its_own_between_two_bounds():
    mask = torch.ones(300, 20, 5, dtype=torch.bool)
    keep = draw_keep("element", mask, mask[..., 0], torch.ones(1, dtype=torch.bool), (0.0, 0.75))
    hidden = (~keep).flatten(1).float().mean(-1)
    assert hidden.min() < 0.05 and 0.7 < hidden.max() <= 0.75
    assert hidden.mean().item() == pytest.approx(0.375, abs=0.04)
    assert max_hidden_steps("time", (0.1, 0.5), 20) == 10
    assert max_visible_steps("time", (0.1, 0.5), 20) == 18


@given(stays(), RATIOS, st.integers(0, 2**31))
def test_variable_masks_hide_exactly_their_share_of_the_observed_variables(given_stays, ratio, seed):
    mask, padding_mask, dynamic = given_stays
    generator = torch.Generator().manual_seed(seed)
    keep = draw_keep("variable", mask, padding_mask, dynamic, ratio, generator=generator)
    for stay, cells in zip(~keep, mask & dynamic, strict=True):
        seen, n = cells.any(0), int(cells.any(0).sum())
        if n >= 2 and cells.any(-1).sum() >= 2:
            assert (stay.any(0) == stay.all(0)).all()
            assert not (stay.any(0) & ~seen).any()
            assert int(stay.any(0).sum()) == rounded(n, ratio)


def everything(n_stays, steps):
    """Stays of one variable, always observed."""
    real = torch.ones(n_stays, steps, dtype=torch.bool)
    return real.unsqueeze(-1), real, torch.ones(1, dtype=torch.bool)


def test_blocks_hide_steps_in_a_row():
    keep = draw_keep("block", *everything(200, 48), ratio=0.5, block_length=6).squeeze(-1)
    starts = (~keep[:, 1:] & keep[:, :-1]).sum(-1) + ~keep[:, 0]
    assert starts.max() <= 6
    assert starts.float().mean() < 4
    assert (~keep).sum(-1).eq(24).all()


@pytest.mark.parametrize("mode", ["time", "block"])
def test_every_step_is_hidden_equally_often(mode):
    torch.manual_seed(0)
    keep = draw_keep(mode, *everything(4000, 16), ratio=0.25, block_length=4)
    assert (keep.float().mean(0) - 0.75).abs().max() < 0.05


@pytest.mark.parametrize("mode", MODES)
def test_a_generator_decides_the_draw(mode, batch):
    def drawn(seed):
        generator = torch.Generator().manual_seed(seed)
        real = batch.mask & batch.padding_mask.unsqueeze(-1)
        return draw_keep(
            mode, real, batch.padding_mask, torch.ones(1, dtype=torch.bool), 0.5, 2, generator=generator
        )

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))
