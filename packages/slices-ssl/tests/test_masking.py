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
    assert (keep | observed).all()
    for stay, seen in zip(~keep, observed, strict=True):
        n = int(seen.sum())
        assert int(stay.sum()) == (rounded(n, ratio) if seen.any(-1).sum() >= 2 else 0)


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
