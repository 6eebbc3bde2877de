from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from slices.encoders.inputs import (
    StayInputs,
    complete,
    hours_since_previous_step,
    spread_statics,
    step_features,
)

BITS = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 40)), min_size=1, max_size=9)


def one_stay(steps: list[tuple[bool, bool, int]]) -> StayInputs:
    """From (real, observed, quarters of an hour since the step before) of each step; one variable."""
    real, observed, gaps = (torch.tensor(part)[None] for part in zip(*steps, strict=True))
    return complete(torch.randn(1, len(steps), 1), observed[..., None], real, gaps.cumsum(1) / 4)


@given(BITS)
def test_step_features(steps: list[tuple[bool, bool, int]]) -> None:
    stay = one_stay(steps)
    values, presence, counts, ages = step_features(stay)[0].T.tolist()
    value, since = 0.0, None
    for t, (real, observed, _) in enumerate(steps):
        if not real:
            continue
        now = stay.times[0, t].item()
        if observed:
            value, since = stay.x[0, t, 0].item(), now
        since = now if since is None else since
        assert (values[t], presence[t]) == (value, observed)
        assert counts[t] == pytest.approx(math.log(2) if observed else 0)
        assert ages[t] == pytest.approx(math.log1p(now - since) / math.log(25), abs=1e-6)


@given(BITS)
def test_hours_since_previous_step(steps: list[tuple[bool, bool, int]]) -> None:
    stay = one_stay(steps)
    previous = None
    for t, (real, _, _) in enumerate(steps):
        if not real:
            continue
        now = stay.times[0, t].item()
        assert hours_since_previous_step(stay)[0, t] == now - (now if previous is None else previous)
        previous = now


def test_numbers_that_cannot_be_are_refused() -> None:
    mask = torch.tensor([[[True, False], [True, True], [False, True]]]).expand(2, -1, -1)
    x = torch.where(mask, 1.0, math.nan)  # NaN where nothing was observed is fine
    real, times = torch.tensor([[True, True, False]] * 2), torch.tensor([[0.0, 3.0, -9.0]] * 2)
    complete(x, mask, real, times, torch.where(mask, 1.0, -1.0))
    bad = x.clone()
    bad[1, 1, 1] = math.inf
    with pytest.raises(ValueError, match=r"x is NaN .*\[1\] of stays \[1\] .* mask & x.isfinite\(\)"):
        complete(bad, mask)
    with pytest.raises(ValueError, match=r"counts must be 0 or more: .*\[0, 1\] of stays \[0, 1\]"):
        complete(x, mask, counts=torch.full_like(x, -1))
    with pytest.raises(ValueError, match=r"times are NaN or infinite in stays \[0\]"):
        complete(x, mask, times=torch.tensor([[0.0, math.nan, 1.0], [0.0, 1.0, 2.0]]))
    with pytest.raises(ValueError, match=r"times fall in stays \[0, 1\] .* sort"):
        complete(x, mask, times=times)


def test_statics_are_spread_from_the_first_real_step() -> None:
    x = torch.tensor([[[9.0, 9.0], [1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]])
    mask = torch.tensor([[[True, True], [True, False], [False, True], [True, True]]])
    stay = complete(x, mask, torch.tensor([[False, True, True, False]]), counts=torch.full_like(x, 2))
    spread = spread_statics(stay, torch.tensor([True, False]))
    assert spread.x.tolist() == [[[0, 0], [1, 0], [1, 4], [0, 0]]]
    assert spread.counts.tolist() == [[[0, 0], [2, 0], [2, 2], [0, 0]]]
    assert spread.mask.tolist() == [[[False, False], [True, False], [True, True], [False, False]]]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mask": torch.ones(2, 3, dtype=torch.bool)}, r"mask must have shape \(2, 3, 4\).*got \(2, 3\)"),
        ({"mask": torch.ones(2, 3, 4)}, r"mask must be boolean.*torch.float32.*mask.bool\(\)"),
        ({"padding_mask": torch.ones(2, 4, dtype=torch.bool)}, r"padding_mask must have shape \(2, 3\)"),
        ({"times": torch.ones(3)}, r"times must have shape \(2, 3\)"),
        ({"counts": torch.ones(2, 3, 5)}, r"counts must have shape \(2, 3, 4\)"),
        ({"x": torch.ones(3, 4)}, r"x must be \(B, T, D\)"),
        ({"x": torch.ones(2, 0, 4)}, r"x has no steps: a stay without any is one step"),
    ],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        complete(**{"x": torch.ones(2, 3, 4)} | wrong)
