"""What a task adds to an encoder: a head, its loss, what that takes for a label, metrics."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from slices.heads import (
    BaseTaskHead,
    TaskHeadConfig,
    TaskLoss,
    balanced_class_weights,
    build_task_head,
    build_task_loss,
)
from slices.training.config import TaskConfig
from slices.training.errors import UserError
from slices.training.evaluation.metrics import TaskMetrics, task_metrics
from slices.training.evaluation.survival_metrics import SurvivalMetrics
from slices.training.intervals import Intervals, quantile_ends

log = logging.getLogger(__name__)
STAGES = ("train", "val", "test")


def make_loss(task: TaskConfig, head: TaskHeadConfig) -> TaskLoss:
    """The task's loss. Raises ``UserError`` for weights that are not one a class."""
    weight = torch.tensor(task.class_weight) if isinstance(task.class_weight, tuple) else None
    if weight is not None and len(weight) != head.n_outputs:
        raise UserError(f"task.class_weight has {len(weight)} numbers for {head.n_outputs} classes")
    return build_task_loss(head, weight, task.label_smoothing, task.focal_gamma, task.huber_delta)


def make_target(task: TaskConfig) -> nn.Module:
    """What makes of a label what the loss takes."""
    if task.task_type != "survival":
        return nn.Identity()
    assert task.n_classes is not None  # filled in by then
    return Intervals(task.n_classes, task.interval_ends)


def make_metrics(head: TaskHeadConfig) -> nn.ModuleDict:
    """The metrics of each stage."""
    return nn.ModuleDict({f"of_{stage}": task_metrics(head.task_type) for stage in STAGES})


def predict(head: BaseTaskHead, embedding: Tensor, padding_mask: Tensor | None) -> dict[str, Tensor]:
    """What a head says of embeddings, those of padding left out where it pools the steps itself."""
    outputs: dict[str, Tensor] = head(embedding, padding_mask) if head.pools_steps else head(embedding)
    return outputs


def count(
    metrics: nn.Module, target: nn.Module, probs: Tensor, label: Tensor, label_mask: Tensor | None
) -> None:
    """Add a batch to metrics."""
    if isinstance(metrics, SurvivalMetrics) and isinstance(target, Intervals):
        metrics.update(probs.detach(), label, label_mask, target.ends)
    elif isinstance(metrics, TaskMetrics):
        metrics.update(probs.detach(), label, label_mask)


def take_scores(metrics: nn.ModuleDict, stage: str, prefix: str) -> dict[str, Tensor]:
    """The scores of a stage's epoch, which is then over; none where a run is resumed at the end of one."""
    of_stage = cast(TaskMetrics | SurvivalMetrics, metrics[f"of_{stage}"])
    if not of_stage.update_called:
        return {}
    scores = {f"{prefix}/{name}": value for name, value in of_stage.compute().items()}
    of_stage.reset()
    return scores


def needs_labels(task: TaskConfig) -> bool:
    """Is something of the task taken from the training labels?"""
    return task.class_weight == "balanced" or (task.task_type == "survival" and not task.interval_ends)


def take_from_labels(
    task: TaskConfig, head: TaskHeadConfig, loss: TaskLoss, target: nn.Module, labels: tuple[Any, Any]
) -> dict[str, Any]:
    """Sets what the task takes from training labels and their mask, and gives it as options of the task."""
    taken: dict[str, Any] = {}
    label, label_mask = labels
    if isinstance(target, Intervals) and not task.interval_ends:
        hours, event = label[label_mask.all(-1)].T
        taken["interval_ends"] = quantile_ends(hours[event > 0], len(target.ends))
        target.set(taken["interval_ends"])
        ends = ", ".join(f"{end:g}" for end in taken["interval_ends"])
        log.info("task %s: intervals end after %s hours", task.task_name, ends)
    if task.class_weight == "balanced":
        known = (torch.from_numpy(label), torch.from_numpy(label_mask))
        weight = balanced_class_weights(*known, head.task_type, head.n_outputs)
        loss.class_weight = weight
        taken["class_weight"] = weight.tolist()
    return taken


class OtherTask(nn.Module):
    """A further task on the same encoder."""

    def __init__(self, config: TaskConfig, weight: float, input_dim: int) -> None:
        super().__init__()
        self.config, self.weight = config, weight
        self.head: BaseTaskHead = build_task_head(config.head(input_dim))
        self.loss = make_loss(config, self.head.config)
        self.target = make_target(config)
        self.metrics = make_metrics(self.head.config)

    def step(self, embedding: Tensor, batch: Mapping[str, Tensor], stage: str) -> Tensor:
        """The loss over the labels that are there, 0 where there is none; adds to the stage's metrics."""
        name = self.config.task_name
        outputs = predict(self.head, embedding, batch.get("padding_mask"))
        label, label_mask = batch[f"label/{name}"], batch[f"label_mask/{name}"]
        count(self.metrics[f"of_{stage}"], self.target, outputs["probs"], label, label_mask)
        loss: Tensor = self.loss(outputs["logits"], self.target(label), label_mask)
        return loss

    def predicted(self, embedding: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What ``predict_step`` gives of this task, by its name: ``probs/<name>``, ``label/<name>`` ..."""
        outputs = predict(self.head, embedding, batch.get("padding_mask"))
        name = self.config.task_name
        there = [key for key in ("label", "label_mask") if f"{key}/{name}" in batch]
        own = {"probs": outputs["probs"]} | {key: batch[f"{key}/{name}"] for key in there}
        own |= extras(self.head.config, self.target, outputs)
        return {f"{key}/{name}": value for key, value in own.items()}


def extras(head: TaskHeadConfig, target: nn.Module, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What predictions have beside ``probs``: quantiles, or the hours until which incidences are."""
    found = {"quantiles": outputs["logits"]} if head.loss == "quantile" else {}
    return found | ({"until": target.ends} if isinstance(target, Intervals) else {})
