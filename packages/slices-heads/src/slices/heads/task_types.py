"""The types of task, and the losses that each may take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from torch import Tensor

from .classification import binary_cross_entropy_loss, cross_entropy_loss
from .focal import binary_focal_loss, focal_loss
from .registry import unknown
from .regression import gaussian_loss, huber_loss, quantile_loss, squared_error_loss
from .survival import survival_loss

TaskType = Literal["binary", "multiclass", "multilabel", "ordinal", "regression", "survival"]
LossName = Literal["cross_entropy", "focal", "mse", "huber", "gaussian", "quantile", "likelihood"]
LossFunction = Callable[..., Tensor]

_OF_CLASSES: dict[LossName, LossFunction] = {"cross_entropy": cross_entropy_loss, "focal": focal_loss}

TASK_LOSSES: dict[TaskType, dict[LossName, LossFunction]] = {
    "binary": _OF_CLASSES,
    "multiclass": _OF_CLASSES,
    "multilabel": {"cross_entropy": binary_cross_entropy_loss, "focal": binary_focal_loss},
    "ordinal": _OF_CLASSES,
    "regression": {
        "mse": squared_error_loss,
        "huber": huber_loss,
        "gaussian": gaussian_loss,
        "quantile": quantile_loss,
    },
    "survival": {"likelihood": survival_loss},
}
"""The losses of each type of task by name; the first is the one it takes unless told otherwise."""


def loss_name(task_type: TaskType, loss: LossName | None) -> LossName:
    """The loss of a task: the one named, or its type's own where none is.

    Raises ``ValueError`` for an unknown type, or a loss that is not for it.

    >>> loss_name("regression", None)
    'mse'
    >>> loss_name("binary", "mse")
    Traceback (most recent call last):
    ...
    ValueError: unknown loss of a binary task 'mse': There are: cross_entropy, focal
    """
    check_task_type(task_type)
    allowed = TASK_LOSSES[task_type]
    if loss is not None and loss not in allowed:
        raise ValueError(unknown(f"loss of a {task_type} task", loss, allowed))
    return next(iter(allowed)) if loss is None else loss


def check_task_type(task_type: str) -> None:
    """Raises ``ValueError`` with the nearest type where there is no such type of task."""
    if task_type not in get_args(TaskType):
        raise ValueError(unknown("task_type", task_type, get_args(TaskType)))
