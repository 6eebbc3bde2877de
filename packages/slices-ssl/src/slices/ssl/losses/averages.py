"""Averages over what counts, of all ranks together."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..distributed import gather, rank_mean


def masked_mean(values: Float[Tensor, "..."], where: Bool[Tensor, "..."]) -> Float[Tensor, ""]:
    """The mean of ``values`` at ``where``, which may be smaller and is then repeated; 0 where there is none.

    >>> masked_mean(torch.tensor([1.0, 2.0, torch.nan]), torch.tensor([True, True, False]))
    tensor(1.5000)
    """
    where = where.expand_as(values)
    total = torch.where(where, values, 0.0).sum(dtype=torch.float32)
    return total / rank_mean(where.sum(dtype=torch.float32)).clamp(min=torch.finfo(torch.float32).tiny)


def precise(tensor: Tensor) -> Tensor:
    """In float32, or in float64 if it is already."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def all_rows(
    rows: Float[Tensor, "B P"], valid: Bool[Tensor, "B"] | None = None
) -> tuple[Float[Tensor, "N P"], Float[Tensor, "N 1"]]:
    """The rows of all ranks, 0 where not valid, and weights, 1 where they are; in float32 at least."""
    if valid is None:
        valid = torch.ones(rows.shape[:1], dtype=torch.bool, device=rows.device)
    kept = torch.where(valid.unsqueeze(-1), precise(rows), 0.0)
    return gather(kept), gather(valid.unsqueeze(-1).to(kept.dtype))


def moments(
    rows: Float[Tensor, "N P"], weight: Float[Tensor, "N 1"]
) -> tuple[Float[Tensor, "P"], Float[Tensor, "N P"], Float[Tensor, ""]]:
    """Mean of the rows of weight 1, their deviations from it (0 for the others), and how many they are."""
    n = weight.sum()
    mean = (rows * weight).sum(0) / n.clamp(min=1)
    return mean, (rows - mean) * weight, n
