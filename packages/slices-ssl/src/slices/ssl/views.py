"""Two looks at one stay, for contrastive learning.

Letters: B stays, T time steps, D variables.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .draws import normal, share, uniform
from .encoding import StayInputs, hide


class View(NamedTuple):
    """What one look keeps, the noise on its values, the hours it moves times, and if it has the statics."""

    keep: Bool[Tensor, "B T D"]
    noise: Float[Tensor, "B T D"]
    shift: Float[Tensor, "B 1"]
    statics: Bool[Tensor, "B 1"]


class ViewDraw(NamedTuple):
    """Two looks at the same stays."""

    first: View
    second: View


def draw_views(
    mask: Bool[Tensor, "B T D"],
    padding_mask: Bool[Tensor, "B T"],
    dynamic: Bool[Tensor, "#D"],
    crop_ratio: float,
    drop_ratio: float,
    jitter: float,
    time_shift: float,
    generator: torch.Generator | None = None,
) -> ViewDraw:
    """Draw two looks at each stay, as :func:`draw_view` does; one of them, drawn by lot, has the statics."""
    first_has = uniform((len(mask), 1), mask.device, generator) < 0.5
    options = (crop_ratio, drop_ratio, jitter, time_shift, generator)
    first, second = (draw_view(mask, padding_mask, dynamic, has, *options) for has in (first_has, ~first_has))
    return ViewDraw(first, second)


def draw_view(
    mask: Bool[Tensor, "B T D"],
    padding_mask: Bool[Tensor, "B T"],
    dynamic: Bool[Tensor, "#D"],
    statics: Bool[Tensor, "B 1"],
    crop_ratio: float,
    drop_ratio: float,
    jitter: float,
    time_shift: float,
    generator: torch.Generator | None = None,
) -> View:
    """Draw a crop of consecutive real steps, drop cells from it, jitter its values and move it in time.

    Each stay keeps a share ``crop_ratio`` of its real steps, of these each cell with probability
    1 - ``drop_ratio``, gets normal noise of standard deviation ``jitter``, and is moved as a whole by up
    to ``time_shift`` hours either way. One usable step, in the crop where there is one in it, is kept
    whole, so that a stay with an observation shows some. ``statics`` says which stays show theirs too.
    """
    batch, steps, width = mask.shape
    device = mask.device
    chance = uniform((batch, steps + 2), device, generator)
    n_real = padding_mask.sum(-1, keepdim=True)
    length = share(n_real, crop_ratio)
    start = (chance[:, :1] * (n_real - length + 1)).long()
    position = padding_mask.cumsum(-1) - 1
    inside = (position >= start) & (position < start + length) & padding_mask
    usable = (mask & dynamic).any(-1)
    anchor = (chance[:, 2:] + usable + (usable & inside)).argmax(-1, keepdim=True)
    kept = uniform(mask.shape, device, generator) >= drop_ratio
    keep = (kept & inside.unsqueeze(-1)).scatter(1, anchor.unsqueeze(-1).expand(-1, -1, width), True)
    shift = time_shift * (2 * chance[:, 1:2] - 1)
    return View(keep, jitter * normal(mask.shape, device, generator), shift, statics)


def max_view_steps(crop_ratio: float, n_steps: int) -> int:
    """The most steps of ``n_steps`` that a view can show, a Python int for static shapes."""
    return min(share(n_steps, crop_ratio) + 1, n_steps)


def look(inputs: StayInputs, view: View, dynamic: Bool[Tensor, "#D"]) -> StayInputs:
    """What ``view`` shows of a batch."""
    seen = dynamic | view.statics.unsqueeze(-1)
    x, mask, counts = (cells.masked_fill(~seen, 0) for cells in (inputs.x, inputs.mask, inputs.counts))
    noisy = x + (view.noise * dynamic).to(x.dtype)
    times = inputs.times + view.shift.to(inputs.times.dtype)
    moved = StayInputs(noisy, mask, inputs.padding_mask, times, counts)
    return hide(moved, view.keep, dynamic)
