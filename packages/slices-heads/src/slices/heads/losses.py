"""Task losses: from logits and labels, some of them missing, to one number.

Letters: B stays, T time steps, C outputs. Labels are ``(...)`` for binary and multiclass tasks and for
a regression of one target, ``(..., C)`` for multilabel tasks and regressions of several, where
``(...)`` is ``(B,)`` or ``(B, T)``. ``label_mask`` has the label's shape; True = the label is there.
What a label holds where its mask is False does not matter, and a label that is NaN or infinite is never
there, so that with such labels no mask is needed. Each loss is the mean over the labels that are there,
and 0 (with a gradient of 0) where there is none.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from .base import TaskType, check_task_type


def cross_entropy_loss(
    logits: Float[Tensor, "*batch C"],
    label: Shaped[Tensor, "*batch"],
    label_mask: Bool[Tensor, "*batch"] | None = None,
    class_weight: Float[Tensor, "C"] | None = None,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Cross-entropy of classes 0..C-1; with weights, the weighted mean ``sum(w_y * l) / sum(w_y)``.

    Smoothing: Szegedy et al., "Rethinking the Inception architecture" (2016), section 7.

    >>> round(cross_entropy_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([1.0])).item(), 4)
    0.6931
    """
    present = labels_present(label, label_mask)
    check_classes(label, present, logits.shape[-1])
    target = torch.where(present, label, 0).long()
    logits = logits.float()
    weight = None if class_weight is None else class_weight.float()
    total = F.cross_entropy(
        logits.flatten(0, -2),
        torch.where(present, target, -100).flatten(),
        weight,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
    share = present.float() if weight is None else present * weight[target]
    return total / _divisor(share)


def binary_cross_entropy_loss(
    logits: Float[Tensor, "*batch C"],
    label: Shaped[Tensor, "*batch C"],
    label_mask: Bool[Tensor, "*batch C"] | None = None,
    class_weight: Float[Tensor, "C"] | None = None,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Cross-entropy of C independent yes-or-no labels; ``class_weight`` multiplies the yes of each.

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
    return (losses * present).sum() / _divisor(present.float())


def squared_error_loss(
    prediction: Float[Tensor, "*batch C"],
    label: Shaped[Tensor, "*label"],
    label_mask: Bool[Tensor, "*label"] | None = None,
) -> Float[Tensor, ""]:
    """Mean squared error. A label without the last axis is the one target of a ``(..., 1)`` prediction.

    >>> squared_error_loss(torch.tensor([[1.0], [5.0]]), torch.tensor([3.0, 5.0])).item()
    2.0
    """
    present = labels_present(label, label_mask)
    target = torch.where(present, label, 0).float()
    errors = prediction.float().reshape(target.shape) - target
    return (errors.square() * present).sum() / _divisor(present.float())


class TaskLoss(nn.Module):
    """The loss of a type of task: cross-entropy, binary cross-entropy per label, or squared error.

    Args:
        task_type: binary and multiclass take cross-entropy, multilabel its yes-or-no form per label,
            regression squared error.
        class_weight: ``(C,)``, a factor per class (binary, multiclass) or on the yes of each label
            (multilabel). See ``balanced_class_weights``.
        label_smoothing: the probability in [0, 1) spread evenly over the classes.

    Raises ``ValueError`` for an unknown type, weights or smoothing with regression, a bad number, or
    (in ``forward``) shapes that do not belong together, or a label that is no class.

    >>> loss = TaskLoss("multiclass", class_weight=torch.tensor([1.0, 1.0, 2.0]))
    >>> round(loss(torch.zeros(4, 3), torch.tensor([0, 1, 2, 2])).item(), 4)  # log(3)
    1.0986
    """

    class_weight: Tensor | None

    def __init__(
        self,
        task_type: TaskType,
        class_weight: Float[Tensor, "C"] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        check_task_type(task_type)
        if task_type == "regression" and (class_weight is not None or label_smoothing):
            raise ValueError("class_weight and label_smoothing: a regression has no classes; leave them out")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing}: must be in [0, 1)")
        if class_weight is not None and not bool((class_weight.isfinite() & (class_weight >= 0)).all()):
            raise ValueError(f"class_weight={class_weight.tolist()}: must be finite and not negative")
        self.task_type = task_type
        self.label_smoothing = label_smoothing
        # Not in the state: it belongs to the training labels, and is known before they are.
        self.register_buffer("class_weight", class_weight, persistent=False)

    def forward(
        self,
        logits: Float[Tensor, "*batch C"],
        label: Shaped[Tensor, "*label"],
        label_mask: Bool[Tensor, "*label"] | None = None,
    ) -> Float[Tensor, ""]:
        """The mean loss over the labels that are there: a scalar in float32."""
        check_label_shape(self.task_type, logits, label, label_mask)
        if self.class_weight is not None and self.class_weight.shape != logits.shape[-1:]:
            raise ValueError(
                f"class_weight has {len(self.class_weight)} numbers for {logits.shape[-1]} classes"
            )
        if self.task_type == "regression":
            return squared_error_loss(logits, label, label_mask)
        loss = binary_cross_entropy_loss if self.task_type == "multilabel" else cross_entropy_loss
        return loss(logits, label, label_mask, self.class_weight, self.label_smoothing)


def check_label_shape(task_type: TaskType, logits: Tensor, label: Tensor, label_mask: Tensor | None) -> None:
    """Raises ``ValueError`` where logits, label and mask cannot belong together: never broadcast them."""
    steps, outputs = tuple(logits.shape[:-1]), logits.shape[-1]
    fits = {
        "binary": label.shape == steps and outputs == 2,
        "multiclass": label.shape == steps,
        "multilabel": label.shape == logits.shape,
        "regression": label.shape == logits.shape or (outputs == 1 and label.shape == steps),
    }
    if not fits[task_type]:
        raise ValueError(
            f"{task_type}: label {tuple(label.shape)} does not fit logits {tuple(logits.shape)}; "
            "see slices.heads.losses for the shapes"
        )
    if label_mask is not None and label_mask.shape != label.shape:
        raise ValueError(f"label_mask {tuple(label_mask.shape)} is not like label {tuple(label.shape)}")


def labels_present(label: Tensor, label_mask: Tensor | None) -> Tensor:
    """Where there is a label: a finite one, and by the mask, where there is one."""
    finite = label.isfinite()
    return finite if label_mask is None else finite & label_mask


def check_classes(label: Tensor, present: Tensor, n_classes: int) -> None:
    """Raises ``ValueError`` for a label that is there but is none of the classes 0..C-1.

    Only on the CPU: a GPU would have to be waited for, and raises by itself where it indexes by class.
    """
    if label.device.type != "cpu" or torch.compiler.is_compiling():
        return
    value = label.float()
    wrong = value[present & ((value < 0) | (value > n_classes - 1) | (value != value.round()))]
    if len(wrong):
        raise ValueError(
            f"label {wrong[0].item():g} is no class: there are {n_classes}, 0 to {n_classes - 1} "
            f"({len(wrong)} such labels). Correct it, or mask it out where it is missing"
        )


def _divisor(share: Tensor) -> Tensor:
    total = share.sum()
    return torch.where(total > 0, total, 1.0)
