"""Losses of values and presence that were hidden. ``...``: any shape."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ..distributed import rank_mean
from .averages import masked_mean
from .module import LossModule

ValueLoss = Literal["mse", "huber"]


def value_loss(
    prediction: Float[Tensor, "..."],
    target: Float[Tensor, "..."],
    where: Bool[Tensor, "..."],
    kind: ValueLoss = "mse",
) -> Float[Tensor, ""]:
    """Squared error, or Huber's with threshold 1, averaged over the cells ``where``; each counts once.

    The reconstruction loss of masked autoencoders (He et al., 2022, section 3, "Reconstruction target").

    >>> value_loss(torch.tensor([1.0, 5.0]), torch.tensor([3.0, 0.0]), torch.tensor([True, False]))
    tensor(4.)
    """
    loss = F.mse_loss if kind == "mse" else F.huber_loss
    return masked_mean(loss(prediction.float(), target.float(), reduction="none"), where)


def balanced_value_loss(
    prediction: Float[Tensor, "... D"],
    target: Float[Tensor, "... D"],
    where: Bool[Tensor, "... D"],
    kind: ValueLoss = "mse",
) -> Float[Tensor, ""]:
    """The mean over variables of each one's ``value_loss``: a rare variable counts as much as a frequent one.

    >>> where = torch.tensor([[True, True], [True, False], [True, False]])
    >>> balanced_value_loss(torch.zeros(3, 2), torch.tensor([[1.0, 3.0], [1.0, 9.0], [1.0, 9.0]]), where)
    tensor(5.)
    """
    loss = F.mse_loss if kind == "mse" else F.huber_loss
    error = loss(prediction.float(), target.float(), reduction="none").flatten(0, -2)
    where = where.flatten(0, -2)
    number = rank_mean(where.sum(0, dtype=torch.float32))
    of_variable = torch.where(where, error, 0.0).sum(0) / number.clamp(min=torch.finfo(torch.float32).tiny)
    return of_variable.sum() / (number > 0).sum().clamp(min=1)


def presence_loss(
    logits: Float[Tensor, "..."], observed: Bool[Tensor, "..."], where: Bool[Tensor, "..."]
) -> Float[Tensor, ""]:
    """Binary cross-entropy of whether a cell was observed, averaged over the cells ``where``.

    The presence loss of DuETT (Labach et al., 2023, section 4.2).

    >>> presence_loss(torch.zeros(2), torch.tensor([True, False]), torch.tensor([True, True]))
    tensor(0.6931)
    """
    entropy = F.binary_cross_entropy_with_logits(logits.float(), observed.float(), reduction="none")
    return masked_mean(entropy, where)


class MaskedValueLoss(LossModule):
    """:func:`value_loss` as a module."""

    function = staticmethod(value_loss)


class BalancedValueLoss(LossModule):
    """:func:`balanced_value_loss` as a module."""

    function = staticmethod(balanced_value_loss)


class PresenceLoss(LossModule):
    """:func:`presence_loss` as a module."""

    function = staticmethod(presence_loss)
