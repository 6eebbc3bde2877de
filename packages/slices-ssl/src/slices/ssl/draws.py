"""Chance and rounding that come out alike on every device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

Count = TypeVar("Count", int, Tensor)

_PARTS = 10_000


def uniform(shape: Sequence[int], device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Random numbers in [0, 1). A CPU generator gives the same ones for every device."""
    source = device if generator is None else generator.device
    return torch.rand(shape, generator=generator, device=source).to(device)


def normal(shape: Sequence[int], device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Standard normal numbers. A CPU generator gives the same ones for every device."""
    source = device if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=source).to(device)


def share(n: Count, ratio: float | Tensor) -> Count:
    """``ratio`` of ``n``, rounded, a half up. In integers, so that tensors and Python ints agree.

    Of a tensor it may be a tensor of ratios.

    >>> share(10, 0.25), share(torch.tensor([10, 3]), 0.25)
    (3, tensor([3, 1]))
    """
    parts = round(ratio * _PARTS) if isinstance(ratio, float | int) else (ratio * _PARTS).round().long()
    return (n * parts + _PARTS // 2) // _PARTS  # type: ignore[return-value]
