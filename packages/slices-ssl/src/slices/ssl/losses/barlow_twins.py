"""Barlow Twins: the cross-correlation of two views should be the identity. B stays, P width."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .averages import all_rows, moments
from .module import LossModule


def barlow_twins_loss(
    first: Float[Tensor, "B P"],
    second: Float[Tensor, "B P"],
    valid: Bool[Tensor, "B"] | None = None,
    redundancy: float = 0.005,
) -> Float[Tensor, ""]:
    """Barlow Twins (Zbontar et al., 2021, equations 1 and 2), over the valid stays of all ranks.

    ``redundancy`` is the paper's lambda. 0 where there are fewer than two stays.

    >>> rows = torch.randn(256, 3)
    >>> barlow_twins_loss(rows, 2 * rows + 1, redundancy=0.0) < 1e-6
    tensor(True)
    """
    with torch.autocast(first.device.type, enabled=False):
        (one, n), (two, _) = (_standardised(view, valid) for view in (first, second))
        correlation = one.T @ two / n.clamp(min=1)
    diagonal = correlation.diagonal()
    others = correlation.square().sum() - diagonal.square().sum()
    loss = (1 - diagonal).square().sum() + redundancy * others
    return torch.where(n > 1, loss, 0.0 * loss)


def _standardised(
    view: Float[Tensor, "B P"], valid: Bool[Tensor, "B"] | None
) -> tuple[Float[Tensor, "N P"], Float[Tensor, ""]]:
    _, centred, n = moments(*all_rows(view, valid))
    variance = centred.square().sum(0) / n.clamp(min=1)
    return centred / (variance + 1e-5).sqrt(), n


class BarlowTwinsLoss(LossModule):
    """:func:`barlow_twins_loss` as a module."""

    function = staticmethod(barlow_twins_loss)
