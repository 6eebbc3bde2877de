"""Task heads and task losses for clinical predictions."""

from .attention import AttentionHead, attention_pool
from .base import BaseTaskHead
from .class_weights import balanced_class_weights
from .classification import binary_cross_entropy_loss, cross_entropy_loss
from .config import TaskHeadConfig
from .factory import TASK_HEAD_REGISTRY, build_task_head, list_heads, register_head
from .focal import binary_focal_loss, focal_loss
from .heads import LinearHead, MLPHead
from .links import predictions
from .multi_task import MultiTaskHead, MultiTaskLoss, multi_task_loss
from .ordinal import ordinal_log_probs
from .regression import gaussian_loss, huber_loss, quantile_loss, squared_error_loss
from .survival import cumulative_incidence, survival_function, survival_label, survival_loss
from .task_loss import TaskLoss, build_task_loss
from .task_types import TASK_LOSSES, LossName, TaskType

__all__ = [
    "TASK_HEAD_REGISTRY",
    "TASK_LOSSES",
    "AttentionHead",
    "BaseTaskHead",
    "LinearHead",
    "LossName",
    "MLPHead",
    "MultiTaskHead",
    "MultiTaskLoss",
    "TaskHeadConfig",
    "TaskLoss",
    "TaskType",
    "attention_pool",
    "balanced_class_weights",
    "binary_cross_entropy_loss",
    "binary_focal_loss",
    "build_task_head",
    "build_task_loss",
    "cross_entropy_loss",
    "cumulative_incidence",
    "focal_loss",
    "gaussian_loss",
    "huber_loss",
    "list_heads",
    "multi_task_loss",
    "ordinal_log_probs",
    "predictions",
    "quantile_loss",
    "register_head",
    "squared_error_loss",
    "survival_function",
    "survival_label",
    "survival_loss",
]
