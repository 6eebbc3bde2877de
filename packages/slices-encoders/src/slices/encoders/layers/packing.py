"""Only what was observed, in as few places as that takes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from .. import device

BUCKET = 32  # places are rounded up to a multiple, so that few sizes occur


class Cells(NamedTuple):
    """N observed cells of each stay: the step and the variable of each, and whether there is one."""

    step: Int[Tensor, "B N"]
    variable: Int[Tensor, "B N"]
    valid: Bool[Tensor, "B N"]

    def of(self, cells: Tensor) -> Tensor:
        """The values of ``(B, T, D)`` in these cells, (B, N)."""
        return cells.flatten(1).gather(1, self.step * cells.shape[2] + self.variable)


def observed_cells(mask: Bool[Tensor, "B T D"], static: Bool[Tensor, "D"], limit: int | None) -> Cells:
    """The observed cells of each stay: statics, then from the latest step back; at most ``limit`` of them.

    N is the limit; without one the most that a stay of the batch has, or, since a GPU would have to stop to
    find that out, all cells there and in compiled code.

    >>> mask = torch.tensor([[[True, False], [True, True]]])
    >>> cells = observed_cells(mask, torch.tensor([True, False]), limit=2)
    >>> cells.step.tolist(), cells.variable.tolist()
    ([[1, 0]], [[0, 0]])
    """
    n_steps, width = mask.shape[1:]
    place = torch.arange(n_steps * width, device=mask.device)
    order = torch.where(static.repeat(n_steps), place + n_steps * width, place)
    observed = mask.flatten(1)
    found = torch.where(observed, order, -1).topk(_bound(observed, limit), dim=1)
    index, valid = found.indices, found.values >= 0
    return Cells(index // width, index % width, valid)


def rows_to_compute(there: Bool[Tensor, "R"]) -> Int[Tensor, "N"] | None:
    """The rows that are there; None, for all, where finding out would make a GPU stop, and in compiled code.

    >>> rows_to_compute(torch.tensor([True, False, True])).tolist()
    [0, 2]
    """
    return there.nonzero().squeeze(1) if device.reading_is_cheap(there) else None


def _bound(observed: Bool[Tensor, "B N"], limit: int | None) -> int:
    cells = observed.shape[1]
    if limit is not None:
        return min(limit, cells)
    if not device.reading_is_cheap(observed) or not observed.numel():
        return cells
    found = int(observed.sum(1).amax())
    return min(-(-max(found, 1) // BUCKET) * BUCKET, cells)
