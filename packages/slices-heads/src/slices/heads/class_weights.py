"""Weights that make rare classes count as much as common ones, from the training labels.

Letters: C classes. Shapes of labels and masks are those of ``TaskLoss``.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from .labels import check_classes, labels_present
from .task_types import TaskType


def balanced_class_weights(
    label: Shaped[Tensor, "*label"],
    label_mask: Bool[Tensor, "*label"] | None,
    task_type: TaskType,
    n_classes: int,
) -> Float[Tensor, "C"]:
    """The ``class_weight`` of ``TaskLoss`` under which every class weighs the same in total.

    Binary, multiclass and ordinal: ``n / (C * n_c)`` per class. Multilabel: ``n_no / n_yes`` per label,
    on its yes.
    What cannot be balanced, a class never seen or a label always the same, gets 1.
    King & Zeng, "Logistic regression in rare events data" (2001), section 4.2.

    Raises ``ValueError`` for a regression and for survival, which have no classes, and for a label that is
    none of them.

    >>> balanced_class_weights(torch.tensor([0, 0, 0, 1]), None, "binary", 2)
    tensor([0.6667, 2.0000])
    >>> balanced_class_weights(torch.tensor([[1, 0], [0, 0], [0, 0]]), None, "multilabel", 2)
    tensor([2., 1.])
    """
    if task_type in ("regression", "survival"):
        raise ValueError(f"class_weight: a {task_type} task has no classes to balance; leave it out")
    present = labels_present(label, label_mask)
    check_classes(label, present, 2 if task_type == "multilabel" else n_classes)
    if task_type == "multilabel":
        return _label_weights(label, present)
    classes = torch.where(present, label, n_classes).long().flatten()
    count = torch.bincount(classes, minlength=n_classes + 1)[:n_classes].float()
    return torch.where(count > 0, count.sum() / (n_classes * count), 1.0)


def _label_weights(label: Tensor, present: Tensor) -> Tensor:
    yes = torch.where(present, label, 0).float().flatten(0, -2).sum(0)
    no = present.float().flatten(0, -2).sum(0) - yes
    return torch.where((yes > 0) & (no > 0), no / yes, 1.0)
