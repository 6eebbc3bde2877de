"""VICReg: views alike, coordinates that vary, and that differ. B stays, P width, N stays of all ranks."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .averages import all_rows, masked_mean, moments
from .module import LossModule


def vicreg_loss(
    first: Float[Tensor, "B P"],
    second: Float[Tensor, "B P"],
    valid: Bool[Tensor, "B"] | None = None,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
) -> Float[Tensor, ""]:
    """Variance-invariance-covariance regularisation (Bardes et al., 2022, equations 1 to 6).

    The three weights are those of the paper. As in the published code the distance of two views is a mean
    over coordinates, and the variance term that of the two views. Over the valid stays of all ranks; 0 where
    there are fewer than two.

    >>> rows = torch.randn(64, 4)
    >>> vicreg_loss(rows, rows, variance=0.0, covariance=0.0)
    tensor(0.)
    """
    same = torch.ones(len(first), dtype=torch.bool, device=first.device) if valid is None else valid
    distance = masked_mean((first.float() - second.float()).square().mean(-1), same)
    (spread_1, shared_1, n), (spread_2, shared_2, _) = (_spread(view, valid) for view in (first, second))
    loss = invariance * distance + variance * (spread_1 + spread_2) / 2 + covariance * (shared_1 + shared_2)
    return torch.where(n > 1, loss, 0.0 * loss)


def _spread(
    view: Float[Tensor, "B P"], valid: Bool[Tensor, "B"] | None
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
    """How far standard deviations lie below 1 (equation 1), the covariances (equation 3), and how many."""
    with torch.autocast(view.device.type, enabled=False):
        _, centred, n = moments(*all_rows(view, valid))
        covariance = centred.T @ centred / (n - 1).clamp(min=1)
    variance = covariance.diagonal()
    shared = (covariance.square().sum() - variance.square().sum()) / view.shape[-1]
    return torch.relu(1 - (variance + 1e-4).sqrt()).mean(), shared, n


class VICRegLoss(LossModule):
    """:func:`vicreg_loss` as a module."""

    function = staticmethod(vicreg_loss)
