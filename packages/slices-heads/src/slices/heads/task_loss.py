"""``TaskLoss``: the loss of a task, from its type and a name. Letters: C classes, labels or targets."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from .checks import check_numbers, check_shapes
from .config import TaskHeadConfig
from .registry import make_config
from .task_types import TASK_LOSSES, LossName, TaskType, loss_name


class TaskLoss(nn.Module):
    """The mean loss over the labels that are there, and 0 (with a gradient of 0) where there is none.

    Args:
        task_type: decides the shapes: labels are ``(...)`` for binary, multiclass and ordinal tasks and for a
            regression of one target, ``(..., C)`` for multilabel tasks and regressions of several,
            ``(..., 2)`` for survival, where ``(...)`` is ``(B,)`` or ``(B, T)``.
        class_weight: ``(C,)``, a factor per class (binary, multiclass, ordinal) or on the yes of each label
            (multilabel). See ``balanced_class_weights``.
        label_smoothing: the probability in [0, 1) spread evenly over the classes (cross-entropy).
        loss: one of ``TASK_LOSSES[task_type]``; by default its first.
        focal_gamma: how much the focal loss turns away from what is right (default 2; 0 is cross-entropy).
        huber_delta: the error from which on the Huber loss grows linearly, in the label's units (default 1).
        quantiles: those that a regression with ``loss="quantile"`` predicts.

    Raises ``ValueError`` for an unknown type or loss, an option that its loss does not take, a bad number, or
    (in ``forward``) shapes that do not belong together, or a label that is no class.

    >>> loss = TaskLoss("multiclass", class_weight=torch.tensor([1.0, 1.0, 2.0]))
    >>> round(loss(torch.zeros(4, 3), torch.tensor([0, 1, 2, 2])).item(), 4)  # log(3)
    1.0986
    """

    class_weight: Tensor | None
    quantiles: Tensor | None

    def __init__(
        self,
        task_type: TaskType,
        class_weight: Float[Tensor, "C"] | None = None,
        label_smoothing: float = 0.0,
        *,
        loss: LossName | None = None,
        focal_gamma: float | None = None,
        huber_delta: float | None = None,
        quantiles: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        self.task_type = task_type
        self.loss = loss_name(task_type, loss)
        self.label_smoothing = label_smoothing
        numbers = {
            "label_smoothing": label_smoothing or None,
            "focal_gamma": focal_gamma,
            "huber_delta": huber_delta,
        }
        self.numbers = {name: number for name, number in numbers.items() if number is not None}
        # Not in the state: they belong to the training labels and the config, and are known before they are.
        self.register_buffer("class_weight", class_weight, persistent=False)
        self.register_buffer("quantiles", torch.tensor(quantiles) if quantiles else None, persistent=False)
        self._check_options()
        check_numbers(self.numbers, class_weight)

    def forward(
        self,
        logits: Float[Tensor, "*logits"],
        label: Shaped[Tensor, "*label"],
        label_mask: Bool[Tensor, "*label"] | None = None,
    ) -> Float[Tensor, ""]:
        """A scalar in float32."""
        points = logits[..., 0] if self.loss in ("gaussian", "quantile") else logits
        check_shapes(self.task_type, points, label, label_mask)
        if self.class_weight is not None and self.class_weight.shape != logits.shape[-1:]:
            raise ValueError(
                f"class_weight has {len(self.class_weight)} numbers for {logits.shape[-1]} classes"
            )
        function = TASK_LOSSES[self.task_type][self.loss]
        return function(logits, label, label_mask, **self._options())

    def _options(self) -> dict[str, Any]:
        tensors = {"class_weight": self.class_weight, "quantiles": self.quantiles}
        return self.numbers | {name: tensor for name, tensor in tensors.items() if tensor is not None}

    def _check_options(self) -> None:
        taken = inspect.signature(TASK_LOSSES[self.task_type][self.loss]).parameters
        where = f"loss={self.loss} of a {self.task_type} task"
        for name in self._options():
            if name not in taken:
                raise ValueError(f"{name}: {where} does not take it; leave it out")
        if "quantiles" in taken and self.quantiles is None:
            raise ValueError(f"quantiles is missing: {where} needs them, as 0.1, 0.5, 0.9")


def build_task_loss(
    config: TaskHeadConfig | Mapping[str, Any],
    class_weight: Float[Tensor, "C"] | None = None,
    label_smoothing: float = 0.0,
    focal_gamma: float | None = None,
    huber_delta: float | None = None,
) -> TaskLoss:
    """The loss that goes with the head of the same config: type, loss and quantiles agree by construction.

    >>> build_task_loss({"task_type": "regression", "loss": "gaussian"}).loss
    'gaussian'
    """
    config = make_config(TaskHeadConfig, config, "task head")
    return TaskLoss(
        config.task_type,
        class_weight,
        label_smoothing,
        loss=config.loss,
        focal_gamma=focal_gamma,
        huber_delta=huber_delta,
        quantiles=config.quantiles if config.loss == "quantile" else None,
    )
