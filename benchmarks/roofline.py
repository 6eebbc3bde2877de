"""What a machine can do at most, what a step asks of it, and the time that it needs for that.

A step is a row of operations; each needs its floating-point operations at the machine's highest rate, or its
bytes at the highest rate at which memory is read and written, whichever takes longer (Williams, Waterman and
Patterson: Roofline, 2009). The sum is the floor of a step that runs its operations one after another.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from slices.training.budget import counting


@dataclass(frozen=True)
class Machine:
    """The highest rates that were measured."""

    flops: float
    """Floating-point operations a second, in matrix products."""
    bandwidth: float
    """Bytes a second, read and written."""

    @classmethod
    def measured(cls, device: str, dtype: torch.dtype = torch.float32) -> Machine:
        """By products that are large enough, and copies of all sizes (small ones stay in a cache)."""
        n = 1024 if device == "cpu" else 8192
        a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
        product = best_time(lambda: torch.mm(a, b), device)
        return cls(2 * n**3 / product, max(_copied(2**power, device) for power in range(14, 25)))


def _copied(n: int, device: str) -> float:
    """Bytes a second, read and written."""
    source = torch.randn(n, device=device)
    target, times = torch.empty_like(source), max(1, 2**20 // n)

    def copies() -> None:
        for _ in range(times):
            target.copy_(source)

    return 2 * source.nbytes * times / best_time(copies, device)


def best_time(run: Callable[[], Any], device: str, times: int = 20) -> float:
    """The least of several, in seconds."""
    found = []
    for _ in range(times):
        began = done(device)
        run()
        found.append(done(device) - began)
    return min(found)


def done(device: str) -> float:
    """The time, once the device has done what it was given."""
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


class Roofline(TorchDispatchMode):
    """Sums what the operations need that run while it is entered.

    >>> machine = Machine(flops=1e9, bandwidth=1e9)
    >>> with Roofline(machine) as asked:
    ...     _ = torch.ones(100, 100) @ torch.ones(100, 100)
    >>> asked.flops, asked.seconds > 2e6 / 1e9
    (2000000, True)
    """

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine = machine
        self.flops, self.bytes, self.seconds, self.n_operations = 0, 0, 0.0, 0
        self._counter = counting()

    def __enter__(self) -> Roofline:
        self._counter.__enter__()  # outside: it sees what this mode passes on
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._counter.__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        before = self._counter.get_total_flops()
        out = func(*args, **(kwargs or {}))
        flops = self._counter.get_total_flops() - before
        moved = 0 if _is_view(func) else sum(map(_bytes, tree_leaves((args, kwargs, out))))
        self.n_operations += 1
        self.flops += flops
        self.bytes += moved
        self.seconds += max(flops / self.machine.flops, moved / self.machine.bandwidth)
        return out


def _is_view(func: Any) -> bool:
    returned = [part.alias_info for part in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in returned)


def _bytes(leaf: object) -> int:
    """Of a tensor; one that was expanded has no more than its memory."""
    if not isinstance(leaf, Tensor):
        return 0
    return min(leaf.numel() * leaf.itemsize, leaf.untyped_storage().nbytes())
