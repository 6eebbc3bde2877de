"""The steps of a stay gathered into bins. Letters: K bins."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..inputs import StayInputs

BORDER = 1e-4
"""Of a bin: a step this near to a border is beyond it, however a device rounds."""


class Bins(NamedTuple):
    """What each bin of a stay holds.

    Attributes:
        value: the last value of each variable in the bin; 0 where there is none.
        counts: measurements of each variable.
        mask: observed in the bin.
        real: the bin holds a real step.
        start: hours since admission at which the bin begins.
        end: at which it ends.
    """

    value: Float[Tensor, "B K D"]
    counts: Float[Tensor, "B K D"]
    mask: Bool[Tensor, "B K D"]
    real: Bool[Tensor, "B K"]
    start: Float[Tensor, "B K"]
    end: Float[Tensor, "B K"]


def bins_of_span(stay: StayInputs, n_bins: int) -> Bins:
    """``n_bins`` of equal length over each stay's own span, from its first real step to its last.

    >>> from slices.encoders.inputs import complete
    >>> bins = bins_of_span(complete(torch.tensor([[[1.0], [2.0], [3.0], [4.0]]])), n_bins=2)
    >>> bins.value.flatten().tolist(), bins.counts.flatten().tolist(), bins.end.tolist()
    ([2.0, 4.0], [2.0, 2.0], [[1.5, 3.0]])
    """
    real = stay.padding_mask
    some = real.any(1, keepdim=True)
    first = torch.where(real, stay.times, torch.inf).amin(1, keepdim=True)
    last = torch.where(real, stay.times, -torch.inf).amax(1, keepdim=True)
    first, span = torch.where(some, first, 0.0), torch.where(some, last - first, 0.0)
    place = (stay.times - first) * n_bins / torch.where(span > 0, span, 1.0)
    place = (place + BORDER).long().clamp(0, n_bins - 1)
    edge = torch.arange(n_bins + 1, device=real.device) / n_bins
    edges = first + edge * span
    return gathered(stay, place, edges[:, :-1], edges[:, 1:])


def gathered(
    stay: StayInputs, place: Int[Tensor, "B T"], start: Float[Tensor, "B K"], end: Float[Tensor, "B K"]
) -> Bins:
    """The steps put into the bins at ``place``; those in one bin in their order."""
    n_stays, n_steps, width = stay.x.shape
    n_bins = start.shape[1]
    cells = place.unsqueeze(-1).expand(stay.x.shape)
    step = torch.arange(n_steps, device=place.device).unsqueeze(-1)
    of_cell = torch.where(stay.mask, step, -1)
    latest = of_cell.new_full((n_stays, n_bins, width), -1)
    latest = latest.scatter_reduce(1, cells, of_cell, reduce="amax")
    mask = latest >= 0
    value = torch.where(mask, stay.x.gather(1, latest.clamp(min=0)), 0.0)
    count = stay.counts.new_zeros(latest.shape).scatter_add(1, cells, stay.counts)
    there = stay.padding_mask.new_zeros(start.shape, dtype=torch.int64)
    there = there.scatter_add(1, place, stay.padding_mask.long()) > 0
    return Bins(value, count, mask, there, start, end)
