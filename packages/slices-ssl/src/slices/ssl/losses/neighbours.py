"""Neighbourhood contrast: windows of one patient close in time are alike. N windows, P width."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..distributed import gather, rank
from .averages import masked_mean
from .contrast import instance_contrast
from .module import LossModule


def neighbourhood_loss(
    first: Float[Tensor, "N P"],
    second: Float[Tensor, "N P"],
    stay: Int[Tensor, "N"],
    time: Float[Tensor, "N"],
    valid: Bool[Tensor, "N"] | None = None,
    hours: float = 8.0,
    alpha: float = 0.5,
    temperature: float = 0.1,
) -> Float[Tensor, ""]:
    """Neighbourhood contrastive learning (Yeche et al., 2021, equations 1 to 4).

    Neighbours of a window are both views of the windows of its ``stay`` that lie less than ``hours`` from its
    ``time``, its own other view among them. ``alpha`` times the alignment loss, in which all neighbours are
    positives against all other views, plus (1 - alpha) times the discriminative loss, in which the window's
    other view is the positive against its neighbours. Stays are numbered within a rank; negatives are of all.

    >>> rows = torch.eye(4)
    >>> where = torch.tensor([0, 0, 1, 1]), torch.tensor([0.0, 4.0, 0.0, 4.0])
    >>> neighbourhood_loss(rows, rows, *where).shape
    torch.Size([])
    """
    guesses = instance_contrast(first, second, temperature, valid)
    logits = guesses.logits  # the lowest number where a key is the anchor itself, or not valid
    window = rank() * len(first) + torch.arange(len(first), device=first.device)
    key_window = torch.arange(logits.shape[1] // 2, device=first.device)
    whose = stay + rank() * len(first)  # no stay of another rank
    same_stay = whose[:, None] == gather(whose.double())
    near = same_stay & ((time.double()[:, None] - gather(time.double())).abs() < hours)
    neighbour = (near | (window[:, None] == key_window)).repeat(2, 2)

    everything = logits.logsumexp(-1)
    neighbours = logits.masked_fill(~neighbour, torch.finfo(logits.dtype).min).logsumexp(-1)
    alignment = masked_mean(everything - neighbours, guesses.valid)
    discrimination = masked_mean(neighbours - guesses.positive, guesses.valid)
    return alpha * alignment + (1 - alpha) * discrimination


class NeighbourhoodLoss(LossModule):
    """:func:`neighbourhood_loss` as a module."""

    function = staticmethod(neighbourhood_loss)
