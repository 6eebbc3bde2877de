"""Task heads and task losses for clinical predictions."""

from .base import BaseTaskHead, TaskHeadConfig, TaskType, predictions
from .class_weights import balanced_class_weights
from .factory import TASK_HEAD_REGISTRY, build_task_head, list_heads, register_head
from .heads import LinearHead, MLPHead
from .losses import (
    TaskLoss,
    binary_cross_entropy_loss,
    cross_entropy_loss,
    squared_error_loss,
)

__all__ = [
    "TASK_HEAD_REGISTRY",
    "BaseTaskHead",
    "LinearHead",
    "MLPHead",
    "TaskHeadConfig",
    "TaskLoss",
    "TaskType",
    "balanced_class_weights",
    "binary_cross_entropy_loss",
    "build_task_head",
    "cross_entropy_loss",
    "list_heads",
    "predictions",
    "register_head",
    "squared_error_loss",
]
