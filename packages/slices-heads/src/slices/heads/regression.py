"""Losses of a regression: squared, Huber, and the likelihoods of a Gaussian and of quantiles.

Letters: C targets, Q quantiles. A label without the last axis is the one target where C is 1. See
``slices.heads.labels`` for what is missing.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from .labels import labels_present, masked_mean


def squared_error_loss(
    prediction: Float[Tensor, "*batch C"],
    label: Shaped[Tensor, "*label"],
    label_mask: Bool[Tensor, "*label"] | None = None,
) -> Float[Tensor, ""]:
    """Mean squared error.

    >>> squared_error_loss(torch.tensor([[1.0], [5.0]]), torch.tensor([3.0, 5.0])).item()
    2.0
    """
    target, present = _target(label, label_mask)
    errors = prediction.float().reshape(target.shape) - target
    return masked_mean(errors.square(), present)


def huber_loss(
    prediction: Float[Tensor, "*batch C"],
    label: Shaped[Tensor, "*label"],
    label_mask: Bool[Tensor, "*label"] | None = None,
    huber_delta: float = 1.0,
) -> Float[Tensor, ""]:
    """Half the square of an error ``e`` up to ``delta``, and ``delta * (|e| - delta / 2)`` beyond.

    Huber, "Robust estimation of a location parameter" (1964). ``huber_delta`` is in the label's units.

    >>> huber_loss(torch.tensor([[1.0], [5.0]]), torch.tensor([3.0, 5.0])).item()
    0.75
    """
    target, present = _target(label, label_mask)
    losses = F.huber_loss(prediction.float().reshape(target.shape), target, "none", huber_delta)
    return masked_mean(losses, present)


def gaussian_loss(
    logits: Float[Tensor, "*batch C 2"],
    label: Shaped[Tensor, "*label"],
    label_mask: Bool[Tensor, "*label"] | None = None,
) -> Float[Tensor, ""]:
    """Negative log-likelihood of a Gaussian, in nats, of its mean ``m`` and log-variance ``v``.

    ``((y - m)^2 / exp(v) + v + log(2 pi)) / 2``; Nix & Weigend, "Estimating the mean and variance of the
    target probability distribution" (1994).

    >>> round(gaussian_loss(torch.zeros(1, 1, 2), torch.tensor([1.0])).item(), 4)  # (1 + log(2 pi)) / 2
    1.4189
    """
    target, present = _target(label, label_mask)
    mean, log_variance = (part.reshape(target.shape) for part in logits.float().unbind(-1))
    losses = (target - mean).square() * torch.exp(-log_variance) + log_variance + math.log(2 * math.pi)
    return masked_mean(losses / 2, present)


def quantile_loss(
    logits: Float[Tensor, "*batch C Q"],
    label: Shaped[Tensor, "*label"],
    label_mask: Bool[Tensor, "*label"] | None = None,
    *,
    quantiles: Float[Tensor, "Q"],
) -> Float[Tensor, ""]:
    """The pinball loss ``max(q * e, (q - 1) * e)`` of ``e = y - prediction``, its mean over the quantiles q.

    Koenker & Bassett, "Regression quantiles" (1978): it is least where a share q of the labels lies below.

    >>> quantile_loss(torch.tensor([[[1.0, 5.0]]]), torch.tensor([3.0]), quantiles=torch.tensor([0.5, 0.75]))
    tensor(0.7500)
    """
    target, present = _target(label, label_mask)
    errors = target.unsqueeze(-1) - logits.float().reshape(*target.shape, logits.shape[-1])
    losses = torch.maximum(quantiles * errors, (quantiles - 1) * errors)
    return masked_mean(losses.mean(-1), present)


def _target(label: Tensor, label_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    present = labels_present(label, label_mask)
    return torch.where(present, label, 0).float(), present
