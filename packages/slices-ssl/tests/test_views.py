"""Views: each does what it says, for each stay its own, and nothing else."""

from __future__ import annotations

import pytest
import torch

from slices.ssl.encoding import complete
from slices.ssl.views import (
    Compose,
    Crop,
    DropElements,
    DropVariables,
    JitterTimes,
    JitterValues,
    MaskSteps,
    ShiftTimes,
    Thin,
    ViewConfig,
    look_at,
    make_view,
    plain_look,
)

B, T, D = 200, 20, 6
ALL = torch.ones(1, dtype=torch.bool)
VIEWS = [
    Crop(0.5),
    MaskSteps(0.3),
    DropVariables(0.3),
    DropElements(0.3),
    Thin(0.6),
    JitterValues(0.1),
    JitterTimes(1.0),
    ShiftTimes(6.0),
]


@pytest.fixture
def stays():
    """Whole stays at irregular hours."""
    times = (0.1 + torch.rand(B, T, generator=torch.Generator().manual_seed(0))).cumsum(1)
    return complete(torch.randn(B, T, D), torch.ones(B, T, D, dtype=torch.bool), times=times)


def draw(view, stays, seed=0):
    return view(stays, ALL, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: type(view).__name__)
def test_a_view_is_drawn_for_each_stay_and_repeats_with_its_seed(view, stays):
    look, again, other = draw(view, stays), draw(view, stays), draw(view, stays, 1)
    assert all(torch.equal(a, b) for a, b in zip(look, again, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(look, other, strict=True))
    changed = [part for part, plain in zip(look, plain_look(stays), strict=True) if part.shape != plain.shape]
    assert len(look[0]) == B and all(len(part) == B for part in look)
    for part in changed:
        assert not torch.equal(part[0], part[1])


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: type(view).__name__)
def test_a_view_never_shows_more_steps_than_it_says(view, stays):
    seen = look_at(stays, draw(view, stays), ALL)
    assert seen.padding_mask.sum(1).max() <= view.max_steps(T)


def test_a_crop_is_a_row_of_steps(stays):
    kept = draw(Crop(0.5), stays).keep.squeeze(-1).expand(B, T)
    assert (kept.sum(1) == 10).all()
    assert ((kept[:, 1:] != kept[:, :-1]).sum(1) <= 2).all()
    assert set(kept.int().argmax(1).tolist()) == set(range(11))  # it begins anywhere


def test_each_hides_its_share(stays):
    for view, axes in ((MaskSteps(0.3), (1,)), (DropVariables(0.3), (2,)), (DropElements(0.3), (1, 2))):
        keep = draw(view, stays).keep
        assert keep.float().mean().item() == pytest.approx(0.7, abs=0.03)
        assert all((keep.shape[axis] > 1) == (axis in axes) for axis in (1, 2))


def test_thinning_has_a_rate_for_each_variable_of_a_stay(stays):
    shares = draw(Thin(0.6), stays).keep.float().mean(1)
    assert shares.mean().item() == pytest.approx(0.7, abs=0.02)
    assert shares.std() > 0.17  # a common rate would give .1 by chance alone
    assert shares.min() < 0.3 and shares.max() == 1.0


def test_values_get_noise_of_the_given_size(stays):
    noise = look_at(stays, draw(JitterValues(0.1), stays), ALL).x - stays.x
    assert noise.std().item() == pytest.approx(0.1, rel=0.03) and abs(noise.mean()) < 0.01


def test_steps_move_in_time_and_none_overtakes(stays):
    moved = look_at(stays, draw(JitterTimes(1.0), stays), ALL).times
    assert (moved[:, 1:] >= moved[:, :-1]).all() and not torch.equal(moved, stays.times)
    gap = stays.times.diff(dim=1)
    nearest = torch.minimum(torch.cat([gap[:, :1], gap], 1), torch.cat([gap, gap[:, -1:]], 1))
    assert ((moved - stays.times).abs() <= nearest / 2 + 1e-5).all()


def test_padding_has_no_time_and_single_steps_stay(stays):
    real = torch.zeros(B, T, dtype=torch.bool)
    real[:, 7] = True
    lone = complete(stays.x, stays.mask, real, stays.times)
    moved = look_at(lone, draw(JitterTimes(1.0), lone), ALL).times
    assert torch.equal(moved, lone.times.masked_fill(~real, 0.0))


def test_a_stay_moves_as_a_whole(stays):
    moved = look_at(stays, draw(ShiftTimes(6.0), stays), ALL).times - stays.times
    assert torch.allclose(moved, moved[:, :1].expand(B, T), atol=1e-4)
    assert 5 < moved.abs().max() <= 6


def test_views_together_do_all_that_each_does(stays):
    look = draw(Compose([Crop(0.5), DropVariables(0.3), JitterValues(0.1), ShiftTimes(2.0)]), stays)
    assert ((~look.keep).all(2).sum(1) >= 10).all()
    assert look.noise.std() > 0.05 and look.shift.abs().max() > 1


def test_something_is_always_left_of_a_stay_with_an_observation(stays):
    few = complete(stays.x, torch.rand(B, T, D) < 0.02)
    look = draw(Compose([Crop(0.1), DropElements(0.95)]), few)
    left = (look_at(few, look, ALL).mask).flatten(1).any(1)
    assert torch.equal(left, few.mask.flatten(1).any(1))
    # what is kept only because nothing else would be lies in the crop, where there is something
    assert (look.keep & few.mask).flatten(1).sum(1).max() <= 12


def test_what_is_left_of_a_sparse_stay_is_no_more_steps_than_said():
    mask = torch.zeros(B, 48, D, dtype=torch.bool)
    mask[:, ::12] = torch.rand(B, 4, D) < 0.5
    mask[:, 0, 0] = True
    stays, view = complete(mask.float(), mask), make_view(ViewConfig(crop=0.3))
    seen = look_at(stays, view(stays, ALL, torch.Generator().manual_seed(0)), ALL)
    assert seen.padding_mask.sum(-1).max() <= view.max_steps(48)
    assert seen.mask.flatten(1).any(-1).all()


def test_the_config_leaves_out_what_is_zero():
    assert [type(view).__name__ for view in make_view(ViewConfig(crop=1.0, drop_elements=0.0)).views] == [
        "JitterValues",
        "ShiftTimes",
    ]
    everything = ViewConfig(mask_steps=0.1, drop_variables=0.1, thin=0.1, jitter_times=0.1)
    assert {type(view) for view in make_view(everything).views} == {type(view) for view in VIEWS}


def test_static_columns_get_no_noise_and_are_shown_as_the_look_says(stays):
    dynamic = torch.arange(D) > 0
    mask = stays.mask.clone()
    mask[:, 1:, 0] = False
    with_static = complete(stays.x, mask)
    look = Compose([JitterValues(1.0)])(with_static, dynamic)
    shown = look_at(with_static, look, dynamic)
    assert torch.equal(shown.x[:, 0, 0], stays.x[:, 0, 0])
    hidden = look_at(with_static, look._replace(statics=torch.zeros(B, 1, dtype=torch.bool)), dynamic)
    assert not hidden.mask[..., 0].any() and hidden.mask[..., 1:].all()
