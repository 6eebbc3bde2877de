"""What an encoder is given, completed and checked, and features made of it.

Letters: ``B`` stays, ``T`` time steps, ``D`` variables. Masks: True means there.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from . import device


class StayInputs(NamedTuple):
    """A batch of stays with nothing left out; see ``BaseEncoder.forward`` for the fields.

    Values and counts are 0 where unobserved, times 0 at padding, and nothing is observed there.
    """

    x: Float[Tensor, "B T D"]
    mask: Bool[Tensor, "B T D"]
    padding_mask: Bool[Tensor, "B T"]
    times: Float[Tensor, "B T"]
    counts: Float[Tensor, "B T D"]


def complete(
    x: Float[Tensor, "B T D"],
    mask: Bool[Tensor, "B T D"] | None = None,
    padding_mask: Bool[Tensor, "B T"] | None = None,
    times: Float[Tensor, "B T"] | None = None,
    counts: Float[Tensor, "B T D"] | None = None,
) -> StayInputs:
    """Fill in what is missing and zero what must not be seen.

    Everything is observed and real by default, times are 0 .. T-1 hours, counts the mask.

    Raises:
        ValueError: shapes that do not fit together, no steps, or a mask that is not boolean; on the CPU also
            an observed value that is not finite, a negative count, or times that fall.

    >>> stay = complete(torch.ones(1, 2, 1), mask=torch.tensor([[[True], [False]]]))
    >>> stay.x.flatten().tolist(), stay.times.tolist()
    ([1.0, 0.0], [[0.0, 1.0]])
    """
    _check(x, mask, padding_mask, times, counts)
    if padding_mask is None:
        padding_mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    real = padding_mask.unsqueeze(-1)
    mask = real.expand(x.shape) if mask is None else mask & real
    if times is None:
        times = torch.arange(x.shape[1], dtype=torch.float32, device=x.device).expand(x.shape[:2])
    times = torch.where(padding_mask, times.float(), 0.0)
    counts = mask.to(x.dtype) if counts is None else torch.where(mask, counts, 0.0).to(x.dtype)
    stay = StayInputs(torch.where(mask, x, 0.0), mask, padding_mask, times, counts)
    if device.reading_is_cheap(x):
        _check_numbers(stay)
    return stay


def _check(
    x: Tensor, mask: Tensor | None, padding: Tensor | None, times: Tensor | None, counts: Tensor | None
) -> None:
    if x.ndim != 3:
        raise ValueError(f"x must be (B, T, D), got shape {tuple(x.shape)}")
    if x.shape[1] == 0:
        raise ValueError("x has no steps: a stay without any is one step that padding_mask calls padding")
    cells, steps = x.shape, x.shape[:2]
    named = {
        "mask": (mask, cells),
        "padding_mask": (padding, steps),
        "times": (times, steps),
        "counts": (counts, cells),
    }
    for name, (tensor, shape) in named.items():
        if tensor is None:
            continue
        if tensor.shape != shape:
            raise ValueError(f"{name} must have shape {tuple(shape)} to fit x, got {tuple(tensor.shape)}")
        if name.endswith("mask") and tensor.dtype != torch.bool:
            raise ValueError(f"{name} must be boolean (True = there), got {tensor.dtype}: use {name}.bool()")


def _check_numbers(stay: StayInputs) -> None:
    if not stay.x.sum().isfinite() and not stay.x.isfinite().all():
        stays, variables = _where(~stay.x.isfinite())
        raise ValueError(
            f"x is NaN or infinite where observed: variables {variables} of stays {stays} in the batch. "
            "What is missing must be False in mask: mask & x.isfinite()"
        )
    if stay.counts.numel() and not stay.counts.amin() >= 0:
        stays, variables = _where(~(stay.counts >= 0))
        raise ValueError(f"counts must be 0 or more: see variables {variables} of stays {stays} of the batch")
    if not stay.times.isfinite().all():
        raise ValueError(
            f"times are NaN or infinite in stays {_where(~stay.times.isfinite())[0]} of the batch"
        )
    falls = (hours_since_previous_step(stay) < 0) & stay.padding_mask
    if falls.any():
        raise ValueError(f"times fall in stays {_where(falls)[0]} of the batch: sort the real steps by time")


def _where(bad: Bool[Tensor, "B T *D"]) -> tuple[list[int], list[int]]:
    """The first few stays, and of these variables."""
    stays, *_, last = bad.nonzero().unbind(1)
    return sorted(set(stays.tolist()))[:5], sorted(set(last.tolist()))[:5]


def take(steps: Shaped[Tensor, "B T F"], index: Int[Tensor, "B K"] | None) -> Shaped[Tensor, "B K F"]:
    """The steps at the given places, for each stay its own; None: all as they are."""
    if index is None:
        return steps
    rows = index + torch.arange(index.shape[0], device=index.device).unsqueeze(1) * steps.shape[1]
    taken = steps.flatten(0, 1).index_select(0, rows.flatten())
    return taken.view(*index.shape, steps.shape[-1])


def real_steps_first(stay: StayInputs) -> tuple[StayInputs, Int[Tensor, "B T"] | None]:
    """The stay with its real steps in a row and padding after them; and where each step went.

    ``take(out, place)`` puts what was computed of the row back where the steps lay. Where a look is cheap and
    shows that they lie so already, nothing is moved.
    """
    real, steps = stay.padding_mask, torch.arange(stay.x.shape[1], device=stay.x.device)
    if device.reading_is_cheap(real) and not (real[:, 1:] & ~real[:, :-1]).any():
        return stay, None
    place = torch.where(real, real.cumsum(1), real.sum(1, keepdim=True) + (~real).cumsum(1)) - 1
    order = torch.zeros_like(place).scatter(1, place, steps.expand(place.shape))
    x, mask, counts = (take(cells, order) for cells in (stay.x, stay.mask, stay.counts))
    real, times = stay.padding_mask.gather(1, order), stay.times.gather(1, order)
    return StayInputs(x, mask, real, times, counts), place


def keep_statics_once(stay: StayInputs, static: Bool[Tensor, "D"]) -> StayInputs:
    """Leave the static variables out of all steps but the first real one."""
    first = stay.padding_mask & (stay.padding_mask.cumsum(1) == 1)
    kept = ~static | first.unsqueeze(-1)
    mask = stay.mask & kept
    return stay._replace(x=stay.x * mask, mask=mask, counts=stay.counts * mask)


def spread_statics(stay: StayInputs, static: Bool[Tensor, "D"]) -> StayInputs:
    """Give every real step what is known of the static variables at the first real step."""
    first = stay.padding_mask.byte().argmax(1, keepdim=True)
    everywhere = static & stay.padding_mask.unsqueeze(-1)

    def spread(cells: Tensor) -> Tensor:
        return torch.where(everywhere, take(cells, first), cells)

    return stay._replace(x=spread(stay.x), mask=spread(stay.mask), counts=spread(stay.counts))


def latest_step(seen: Bool[Tensor, "B T D"]) -> Int[Tensor, "B T D"]:
    """The latest step, this one included, at which a cell of this variable was seen; 0 where none was.

    >>> latest_step(torch.tensor([[[False], [True], [False]]])).flatten().tolist()
    [0, 1, 1]
    """
    steps = torch.arange(seen.shape[1], device=seen.device).unsqueeze(-1)
    return (steps * seen).cummax(1).values


def hours_since(step: Int[Tensor, "B T D"], times: Float[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
    """From the given steps to each step."""
    return times.unsqueeze(-1) - times.gather(1, step.flatten(1)).view(step.shape)


def step_features(stay: StayInputs) -> Float[Tensor, "B T F"]:
    """What is known of every variable at each step, from that step and those before; F = 4 D.

    Its latest value (0 where there is none yet), whether that was observed at this step, log(1 + count),
    and the log of its age in hours. A value that was never observed is as old as the first real step:
    the mask, interval and forward imputation of Che et al. 2018, section 2.3.
    """
    first = stay.padding_mask & (stay.padding_mask.cumsum(1) == 1)
    seen = stay.mask | first.unsqueeze(-1)
    latest = latest_step(seen)
    age = log_days(hours_since(latest, stay.times)).to(stay.x.dtype)
    presence = stay.mask.to(stay.x.dtype)
    return torch.cat((stay.x.gather(1, latest), presence, torch.log1p(stay.counts), age), dim=-1)


def clocked_features(stay: StayInputs) -> Float[Tensor, "B T F"]:
    """``step_features`` and the logs of the step's time and of the gap before it; F = 4 D + 2.

    What an architecture is given that itself only knows the order of steps.
    """
    clock = log_days(torch.stack((stay.times, hours_since_previous_step(stay)), dim=-1))
    return torch.cat((step_features(stay), clock.to(stay.x.dtype)), dim=-1)


def hours_since_previous_step(stay: StayInputs) -> Float[Tensor, "B T"]:
    """Hours since the real step before, 0 at the first one. Of no meaning at padding."""
    latest = torch.where(stay.padding_mask, stay.times, -torch.inf).cummax(1).values
    first = torch.arange(latest.shape[1], device=latest.device) == 0
    before = torch.where(first, -torch.inf, latest.roll(1, 1))
    return torch.where(before == -torch.inf, 0.0, stay.times - before)


def log_days(hours: Tensor) -> Tensor:
    """Hours on a signed logarithmic scale on which a day is 1.

    >>> log_days(torch.tensor([0.0, 24.0, -24.0])).tolist()
    [0.0, 1.0, -1.0]
    """
    return hours.sign() * torch.log1p(hours.abs()) / math.log1p(24)
