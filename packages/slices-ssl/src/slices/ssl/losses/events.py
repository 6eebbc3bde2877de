"""Marked time to event in bins: when is a variable next measured, and what then. K bins, M marks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .averages import masked_mean
from .module import LossModule


def event_loss(
    logits: Float[Tensor, "... K"], bin: Int[Tensor, "..."], last: Int[Tensor, "..."]
) -> Float[Tensor, ""]:
    """Negative log-likelihood of a discrete-time hazard model (Singer & Willett, 1993; MOTOR, Steinberg et
    al., 2024, does it with piecewise exponential hazards), averaged over the series that were followed.

    ``logits`` are those of the event in a bin, given that it has not happened before. It happens in ``bin``
    or, where that is after ``last``, was not seen to happen in the bins 0 .. ``last``, the last one followed
    to its end (-1: none was).

    >>> event_loss(torch.zeros(1, 4), torch.tensor([2]), torch.tensor([3])) / torch.tensor(2.0).log()
    tensor(3.)
    """
    place = torch.arange(logits.shape[-1], device=logits.device)
    happens = bin <= last
    at_risk = place <= torch.minimum(bin, last).unsqueeze(-1)
    event = (place == bin.unsqueeze(-1)) & happens.unsqueeze(-1)
    entropy = F.binary_cross_entropy_with_logits(logits.float(), event.float(), reduction="none")
    return masked_mean((entropy * at_risk).sum(-1), last >= 0)


def mark_loss(
    logits: Float[Tensor, "... M"], mark: Int[Tensor, "..."], where: Bool[Tensor, "..."]
) -> Float[Tensor, ""]:
    """Cross-entropy of what kind an event was, averaged over those ``where`` there was one.

    >>> mark_loss(torch.zeros(2, 3), torch.tensor([0, 2]), torch.tensor([True, False]))
    tensor(1.0986)
    """
    entropy = F.cross_entropy(logits.float().flatten(0, -2), mark.flatten(), reduction="none")
    return masked_mean(entropy, where.flatten())


class EventLoss(LossModule):
    """:func:`event_loss` as a module."""

    function = staticmethod(event_loss)


class MarkLoss(LossModule):
    """:func:`mark_loss` as a module."""

    function = staticmethod(mark_loss)
