"""Neighbourhood contrast: windows of one patient close in time are alike. N windows, P width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..distributed import gather, rank
from .averages import masked_mean
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
    if valid is None:
        valid = torch.ones(len(first), dtype=torch.bool, device=first.device)
    anchors = torch.cat([first, second])
    keys = gather(torch.stack([first, second], dim=1)).transpose(0, 1).flatten(0, 1)
    with torch.autocast(first.device.type, enabled=False):
        anchors, keys = (F.normalize(part.float(), dim=-1) for part in (anchors, keys))
        logits = anchors @ keys.T / temperature

    window = rank() * len(first) + torch.arange(len(first), device=first.device)
    key_window = torch.arange(len(keys) // 2, device=first.device)
    at = torch.stack([stay.double() + rank() * len(first), time.double()], dim=-1)  # no stay of another rank
    key_at, key_valid = gather(at), gather(valid.float()).bool()
    same_stay = at[:, None, 0] == key_at[:, 0]
    near = same_stay & ((at[:, None, 1] - key_at[:, 1]).abs() < hours) | (window[:, None] == key_window)
    itself = (
        torch.arange(len(keys), device=first.device) == torch.cat([window, window + len(key_window)])[:, None]
    )
    others = key_valid.repeat(2) & ~itself
    neighbour = near.repeat(2, 2) & others
    own = (window[:, None] == key_window).repeat(2, 2) & others

    low = torch.finfo(torch.float32).min
    everything = logits.masked_fill(~others, low).logsumexp(-1)
    neighbours = logits.masked_fill(~neighbour, low).logsumexp(-1)
    other_view = torch.where(own, logits, 0.0).sum(-1)
    counts = valid.repeat(2)
    alignment = masked_mean(everything - neighbours, counts)
    discrimination = masked_mean(neighbours - other_view, counts)
    return alpha * alignment + (1 - alpha) * discrimination


class NeighbourhoodLoss(LossModule):
    """:func:`neighbourhood_loss` as a module."""

    function = staticmethod(neighbourhood_loss)
