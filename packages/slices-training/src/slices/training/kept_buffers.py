"""Running statistics, and whatever else of a module training moves without its optimizer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor


class _Kept(NamedTuple):
    buffer: Tensor
    version: int
    """How often it had been changed, in place."""
    value: Tensor


class KeptBuffers:
    """What buffers were before a step, to be put back where that is left out; constants are copied once.

    >>> buffer = torch.zeros(2)
    >>> kept = KeptBuffers([buffer])
    >>> kept.keep()
    >>> _ = buffer.fill_(torch.nan)
    >>> kept.put_back(torch.tensor(True))
    >>> buffer
    tensor([0., 0.])
    """

    def __init__(self, buffers: Iterable[Tensor] = ()) -> None:
        self._kept = [_Kept(buffer, -1, buffer) for buffer in buffers if buffer.is_floating_point()]

    def keep(self) -> None:
        """Notes what they are."""
        for i, (buffer, version, _) in enumerate(self._kept):
            if buffer._version != version:
                self._kept[i] = _Kept(buffer, buffer._version, buffer.clone())

    def put_back(self, bad: Tensor) -> None:
        """Makes them what they were where ``bad``, a 0-d bool, is true; the device is not waited for."""
        for buffer, version, value in self._kept:
            if buffer._version != version:
                buffer.copy_(torch.where(bad, value, buffer))
