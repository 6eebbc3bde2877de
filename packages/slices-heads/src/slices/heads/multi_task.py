"""Several tasks on one embedding. Letters: B stays, T time steps, H embedding width."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from .base import BaseTaskHead
from .config import TaskHeadConfig
from .factory import build_task_head
from .task_loss import TaskLoss


class MultiTaskHead(nn.Module):
    """One head a task, of the same or of different kinds, on the same embedding.

    Args:
        tasks: by the task's name, the config of its head (or a mapping of it).

    Attributes: ``heads``, by task; ``pools_steps``, whether any needs ``(B, T, H)``, of which those that do
    not pool make one prediction a step.
    Raises ``ValueError`` where there is no task, or a head's config is wrong.

    >>> head = MultiTaskHead({
    ...     "death": {"task_type": "binary", "input_dim": 8},
    ...     "stay": {"task_type": "regression", "input_dim": 8, "name": "mlp"},
    ... })
    >>> {task: tuple(outputs["probs"].shape) for task, outputs in head(torch.randn(3, 8)).items()}
    {'death': (3, 2), 'stay': (3, 1)}
    """

    def __init__(self, tasks: Mapping[str, TaskHeadConfig | Mapping[str, Any]]) -> None:
        super().__init__()
        if not tasks:
            raise ValueError("tasks is empty: give one config a task")
        heads: dict[str, nn.Module] = {task: build_task_head(config) for task, config in tasks.items()}
        self.heads = nn.ModuleDict(heads)

    @property
    def pools_steps(self) -> bool:
        """Whether a head needs the steps' embeddings ``(B, T, H)``."""
        return any(head.pools_steps for head in self.heads.values())

    def forward(
        self, embedding: Float[Tensor, "*batch H"], valid: Bool[Tensor, "*batch"] | None = None
    ) -> dict[str, dict[str, Tensor]]:
        """What each head gives, by task; ``valid`` is handed to those that pool the steps."""
        return {task: _apply(head, embedding, valid) for task, head in self.heads.items()}


def _apply(head: nn.Module, embedding: Tensor, valid: Tensor | None) -> dict[str, Tensor]:
    pools = isinstance(head, BaseTaskHead) and head.pools_steps
    outputs: dict[str, Tensor] = head(embedding, valid) if pools else head(embedding)
    return outputs


class MultiTaskLoss(nn.Module):
    """The weighted sum of the tasks' losses, and each of them.

    A task whose labels are all missing adds nothing.

    Args:
        losses: by task.
        weights: by task; 1 where none is given.

    Raises ``ValueError`` for a negative weight, or (also in ``forward``) tasks that do not agree.

    >>> loss = MultiTaskLoss({"death": TaskLoss("binary"), "stay": TaskLoss("regression")}, {"stay": 0.1})
    >>> outputs = {"death": {"logits": torch.zeros(1, 2)}, "stay": {"logits": torch.zeros(1, 1)}}
    >>> total, parts = loss(outputs, {"death": torch.tensor([1]), "stay": torch.tensor([3.0])})
    >>> round(total.item(), 4), {task: round(part.item(), 4) for task, part in parts.items()}
    (1.5931, {'death': 0.6931, 'stay': 9.0})
    """

    def __init__(self, losses: Mapping[str, TaskLoss], weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        weights = weights or {}
        check_tasks("weights", weights, losses, all_of_them=False)
        for task, weight in weights.items():
            if not weight >= 0:
                raise ValueError(f"weights: {task!r} has {weight}; it must not be negative")
        self.losses = nn.ModuleDict(losses)
        self.weights = {task: float(weights.get(task, 1.0)) for task in losses}

    def forward(
        self,
        outputs: Mapping[str, Mapping[str, Tensor]],
        labels: Mapping[str, Shaped[Tensor, "..."]],
        label_masks: Mapping[str, Bool[Tensor, "..."]] | None = None,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The sum to descend, and the losses by task, unweighted and detached, to log."""
        masks = label_masks or {}
        check_tasks("outputs", outputs, self.weights)
        check_tasks("labels", labels, self.weights)
        check_tasks("label_masks", masks, self.weights, all_of_them=False)
        losses = {
            task: loss(outputs[task]["logits"], labels[task], masks.get(task))
            for task, loss in self.losses.items()
        }
        return multi_task_loss(losses, self.weights), {task: loss.detach() for task, loss in losses.items()}


def multi_task_loss(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Float[Tensor, ""]:
    """``sum_t weight_t * loss_t``.

    >>> multi_task_loss({"a": torch.tensor(1.0), "b": torch.tensor(2.0)}, {"a": 1.0, "b": 0.5})
    tensor(2.)
    """
    return torch.stack([weights[task] * loss for task, loss in losses.items()]).sum()


def check_tasks(what: str, given: Iterable[str], tasks: Iterable[str], *, all_of_them: bool = True) -> None:
    """Raises ``ValueError`` naming tasks that are given but unknown, or known but not given."""
    extra = sorted(set(given) - set(tasks))
    missing = sorted(set(tasks) - set(given)) if all_of_them else []
    if extra or missing:
        raise ValueError(
            f"{what}: unknown tasks {extra}, missing tasks {missing}; there are {', '.join(sorted(tasks))}"
        )
