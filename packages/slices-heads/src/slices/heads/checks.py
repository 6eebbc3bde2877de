"""What ``TaskLoss`` refuses: numbers out of range, and shapes that do not belong together."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .task_types import TaskType


def check_numbers(numbers: Mapping[str, float], class_weight: Tensor | None) -> None:
    """Raises ``ValueError`` for an option of ``TaskLoss`` that is out of its range."""
    if not 0 <= numbers.get("label_smoothing", 0) < 1:
        raise ValueError(f"label_smoothing={numbers['label_smoothing']}: must be in [0, 1)")
    if numbers.get("focal_gamma", 0) < 0:
        raise ValueError(f"focal_gamma={numbers['focal_gamma']}: must not be negative")
    if numbers.get("huber_delta", 1) <= 0:
        raise ValueError(f"huber_delta={numbers['huber_delta']}: must be above 0")
    if class_weight is not None and not bool((class_weight.isfinite() & (class_weight >= 0)).all()):
        raise ValueError(f"class_weight={class_weight.tolist()}: must be finite and not negative")


def check_shapes(task_type: TaskType, logits: Tensor, label: Tensor, label_mask: Tensor | None) -> None:
    """Raises ``ValueError`` where logits, label and mask cannot belong together: never broadcast them.

    Of a regression, ``logits`` are its points ``(..., C)``.
    """
    steps, outputs = tuple(logits.shape[:-1]), logits.shape[-1]
    fits = {
        "binary": label.shape == steps and outputs == 2,
        "multiclass": label.shape == steps,
        "multilabel": label.shape == logits.shape,
        "ordinal": label.shape == steps,
        "regression": label.shape == logits.shape or (outputs == 1 and label.shape == steps),
        "survival": label.shape == (*steps[:-1], 2),
    }
    if not fits[task_type]:
        raise ValueError(
            f"{task_type}: label {tuple(label.shape)} does not fit logits {tuple(logits.shape)}; "
            "see slices.heads.TaskLoss for the shapes"
        )
    if label_mask is not None and label_mask.shape != label.shape:
        raise ValueError(f"label_mask {tuple(label_mask.shape)} is not like label {tuple(label.shape)}")
