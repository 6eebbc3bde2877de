"""Cross-entropy of classes, and of yes-or-no labels, some of them missing.

Letters: C classes or labels. ``*batch`` is ``B`` or ``B T``. See ``slices.heads.labels`` for what is missing.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from .labels import check_classes, divisor, labels_present, masked_mean


def cross_entropy_loss(
    logits: Float[Tensor, "*batch C"],
    label: Shaped[Tensor, "*batch"],
    label_mask: Bool[Tensor, "*batch"] | None = None,
    class_weight: Float[Tensor, "C"] | None = None,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Cross-entropy of classes 0..C-1; with weights, the weighted mean ``sum(w_y * l) / sum(w_y)``.

    Smoothing: Szegedy et al., "Rethinking the Inception architecture" (2016), section 7.

    Raises ``ValueError`` for a label that is no class (on the CPU).

    >>> round(cross_entropy_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([1.0])).item(), 4)
    0.6931
    """
    present = labels_present(label, label_mask)
    check_classes(label, present, logits.shape[-1])
    target = torch.where(present, label, 0).long()
    weight = None if class_weight is None else class_weight.float()
    total = F.cross_entropy(
        logits.float().flatten(0, -2),
        torch.where(present, target, -100).flatten(),
        weight,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
    share = present.float() if weight is None else present * weight[target]
    return total / divisor(share)


def binary_cross_entropy_loss(
    logits: Float[Tensor, "*batch C"],
    label: Shaped[Tensor, "*batch C"],
    label_mask: Bool[Tensor, "*batch C"] | None = None,
    class_weight: Float[Tensor, "C"] | None = None,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Cross-entropy of C independent yes-or-no labels; ``class_weight`` multiplies the yes of each.

    Raises ``ValueError`` for a label that is neither 0 nor 1 (on the CPU).

    >>> logits, label = torch.zeros(1, 2), torch.tensor([[1.0, float("nan")]])
    >>> round(binary_cross_entropy_loss(logits, label, label.isfinite()).item(), 4)
    0.6931
    """
    present = labels_present(label, label_mask)
    check_classes(label, present, 2)
    target = torch.where(present, label, 0).float()
    target = target * (1 - label_smoothing) + label_smoothing / 2
    losses = F.binary_cross_entropy_with_logits(
        logits.float(), target, pos_weight=class_weight, reduction="none"
    )
    return masked_mean(losses, present)
