"""The focal loss: cross-entropy that turns away from what is already right.

``-(1 - p)^gamma * log(p)`` with ``p`` the probability of the true class. Lin et al., "Focal loss for dense
object detection" (2017), equations 4 and 5; their alpha is ``class_weight``. Letters: C classes or labels.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from .labels import check_classes, labels_present, masked_mean


def focal_loss(
    logits: Float[Tensor, "*batch C"],
    label: Shaped[Tensor, "*batch"],
    label_mask: Bool[Tensor, "*batch"] | None = None,
    class_weight: Float[Tensor, "C"] | None = None,
    focal_gamma: float = 2.0,
) -> Float[Tensor, ""]:
    """Of classes 0..C-1; with weights, the weighted mean. ``focal_gamma=0`` is cross-entropy.

    Raises ``ValueError`` for a label that is no class (on the CPU).

    >>> logits, label = torch.tensor([[0.0, 0.0]]), torch.tensor([1])
    >>> round(focal_loss(logits, label).item(), 4)  # log(2) / 4
    0.1733
    """
    present = labels_present(label, label_mask)
    check_classes(label, present, logits.shape[-1])
    target = torch.where(present, label, 0).long()
    logits = logits.float()
    own = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, target.unsqueeze(-1), True)
    # the log-odds of the true class: it against all others
    odds = torch.where(own, logits, 0).sum(-1) - logits.masked_fill(own, -torch.inf).logsumexp(-1)
    share = present.float() if class_weight is None else present * class_weight.float()[target]
    return masked_mean(_focal(odds, focal_gamma), share)


def binary_focal_loss(
    logits: Float[Tensor, "*batch C"],
    label: Shaped[Tensor, "*batch C"],
    label_mask: Bool[Tensor, "*batch C"] | None = None,
    class_weight: Float[Tensor, "C"] | None = None,
    focal_gamma: float = 2.0,
) -> Float[Tensor, ""]:
    """Of C independent yes-or-no labels; ``class_weight`` multiplies the yes of each.

    Raises ``ValueError`` for a label that is neither 0 nor 1 (on the CPU).

    >>> round(binary_focal_loss(torch.zeros(1, 2), torch.tensor([[1.0, float("nan")]])).item(), 4)
    0.1733
    """
    present = labels_present(label, label_mask)
    check_classes(label, present, 2)
    yes = torch.where(present, label, 0).float()
    losses = _focal(logits.float() * (2 * yes - 1), focal_gamma)
    if class_weight is not None:
        losses = losses * (1 + yes * (class_weight.float() - 1))
    return masked_mean(losses, present)


def _focal(odds: Tensor, gamma: float) -> Tensor:
    """Of the true answer's log-odds; in logarithms, so that the gradient is finite where p is 0 or 1."""
    return -torch.exp(gamma * F.logsigmoid(-odds)) * F.logsigmoid(odds)
