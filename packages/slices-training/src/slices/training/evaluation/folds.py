"""Folds for choosing a model inside the training rows."""

from __future__ import annotations

import torch
from jaxtyping import Int, Shaped
from torch import Tensor


def stratified_folds(
    strata: Shaped[Tensor, "N"], group: Int[Tensor, "N"], n_folds: int, seed: int
) -> Int[Tensor, "N"] | None:
    """The fold of each row: whole groups, each stratum spread evenly, a group being of its highest one.

    At most as many folds as the rarest stratum has groups, strata of one group apart; None where that
    leaves fewer than two, or fewer than two strata where there are several.

    >>> stratified_folds(torch.tensor([0, 0, 0, 0, 1, 1]), torch.arange(6), n_folds=5, seed=0).sort().values
    tensor([0, 0, 0, 1, 1, 1])
    """
    groups, row_group = torch.unique(group, return_inverse=True)
    _, row_stratum = torch.unique(strata, return_inverse=True)
    stratum = torch.zeros_like(groups).scatter_reduce(0, row_group, row_stratum, "amax")
    sizes = torch.bincount(stratum)
    sizes = sizes[sizes > 0]
    usable = sizes[sizes >= 2]
    if len(usable) < min(len(sizes), 2):
        return None
    shuffled = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).to(groups.device)
    dealt = shuffled[stratum[shuffled].argsort(stable=True)]
    fold = torch.empty_like(groups)
    fold[dealt] = torch.arange(len(groups), device=groups.device) % min(n_folds, int(usable.min()))
    return fold[row_group]
