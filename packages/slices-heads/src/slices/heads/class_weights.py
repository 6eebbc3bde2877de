"""Weights that make rare classes count as much as common ones, from the training labels.

Letters: C classes. Shapes of labels and masks are those of ``slices.heads.losses``.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from .losses import labels_present


def balanced_class_weights(
    label: Shaped[Tensor, "*batch"], label_mask: Bool[Tensor, "*batch"] | None = None, *, n_classes: int
) -> Float[Tensor, "C"]:
    """``n / (C * n_c)``: every class weighs the same in total. A class that never occurs gets 1.

    King & Zeng, "Logistic regression in rare events data" (2001), section 4.2.

    >>> balanced_class_weights(torch.tensor([0, 0, 0, 1]), n_classes=2)
    tensor([0.6667, 2.0000])
    """
    present = labels_present(label, label_mask)
    classes = torch.where(present, label, n_classes).long().flatten()
    count = torch.bincount(classes, minlength=n_classes + 1)[:n_classes].float()
    return torch.where(count > 0, count.sum() / (n_classes * count), 1.0)


def balanced_label_weights(
    label: Shaped[Tensor, "*batch C"], label_mask: Bool[Tensor, "*batch C"] | None = None
) -> Float[Tensor, "C"]:
    """``n_no / n_yes`` per label, so that yes and no weigh the same. A label without a yes gets 1.

    >>> balanced_label_weights(torch.tensor([[1, 0], [0, 0], [0, 0]]))
    tensor([2., 1.])
    """
    present = labels_present(label, label_mask)
    yes = torch.where(present, label, 0).float().flatten(0, -2).sum(0)
    no = present.float().flatten(0, -2).sum(0) - yes
    return torch.where((yes > 0) & (no > 0), no / yes, 1.0)
