"""Across ranks: every function is the identity where there is one process."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


def world_size() -> int:
    """The number of ranks, 1 without ``torch.distributed``."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's rank, 0 without ``torch.distributed``."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def gather(tensor: Float[Tensor, "B *rest"]) -> Float[Tensor, "all *rest"]:
    """The tensors of all ranks one after the other, ``(world * B, ...)``; every rank needs the same B.

    The gradient of each part is summed over the ranks that used it. With a loss that each rank
    averages over its own rows, and gradients averaged over ranks as DDP does, that is the gradient of
    one process with all rows.
    """
    return tensor if world_size() == 1 else _Gather.apply(tensor)  # type: ignore[no-untyped-call]


def rank_mean(tensor: Tensor) -> Tensor:
    """The mean of ``tensor`` over ranks, without gradient."""
    if world_size() == 1:
        return tensor.detach()
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.rows = len(tensor)
        parts = [torch.empty_like(tensor) for _ in range(world_size())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient.narrow(0, rank() * ctx.rows, ctx.rows)
