"""The contract of a task head: an embedding in, logits and predictions out.

Letters: B stays, T time steps, H embedding width, C outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .registry import unknown

TaskType = Literal["binary", "multiclass", "multilabel", "regression"]


@dataclass(kw_only=True)
class TaskHeadConfig:
    """What a head is built from; the defaults of every head are here.

    ``name`` is the head's registered name and ``task_name`` the task's own, for people and logs.
    ``n_classes`` is 2 for binary tasks whatever is said, must be given for multiclass and multilabel
    ones, and counts the targets of a regression (default 1). ``input_dim`` is the embedding's width H.
    ``hidden_dims`` are the widths of the hidden layers where a head has them (``mlp``).

    Raises ``ValueError`` naming the field, its value and what is allowed.

    >>> TaskHeadConfig(task_type="multiclass", n_classes=5).n_outputs
    5
    >>> TaskHeadConfig(task_type="binary", n_classes=3)
    Traceback (most recent call last):
    ...
    ValueError: n_classes=3: a binary task has 2 classes; a task with 3 is multiclass or multilabel
    """

    name: str = "linear"
    task_name: str = ""
    task_type: TaskType = "binary"
    n_classes: int | None = None
    input_dim: int | None = None
    hidden_dims: tuple[int, ...] = (64,)
    dropout: float = 0.1

    def __post_init__(self) -> None:
        self.hidden_dims = tuple(self.hidden_dims)
        check_task_type(self.task_type)
        if self.task_type == "binary" and self.n_classes not in (None, 2):
            raise ValueError(
                f"n_classes={self.n_classes}: a binary task has 2 classes; "
                f"a task with {self.n_classes} is multiclass or multilabel"
            )
        fewest = 2 if self.task_type == "multiclass" else 1
        if self.n_classes is not None and self.n_classes < fewest:
            raise ValueError(f"n_classes={self.n_classes}: a {self.task_type} task has {fewest} or more")
        if self.input_dim is not None and self.input_dim < 1:
            raise ValueError(f"input_dim={self.input_dim}: must be 1 or more")
        if any(width < 1 for width in self.hidden_dims):
            raise ValueError(f"hidden_dims={self.hidden_dims}: every width must be 1 or more")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout}: must be in [0, 1)")

    @property
    def n_outputs(self) -> int:
        """C, the width of the logits. Raises ``ValueError`` where ``n_classes`` is needed and missing."""
        if self.n_classes is not None:
            return self.n_classes
        if self.task_type in ("multiclass", "multilabel"):
            raise ValueError(f"n_classes is missing: a {self.task_type} task cannot do without")
        return 2 if self.task_type == "binary" else 1


class BaseTaskHead(nn.Module):
    """A head maps an embedding to ``{"logits", "probs"}``; subclasses define ``forward``.

    It acts on the last axis alone, so that ``(B, H)`` gives one prediction a stay and ``(B, T, H)``
    one a step. The task's type, not its width, decides what ``probs`` is (see ``predictions``).

    Attributes: ``config``; ``input_dim``, H; ``output_dim``, C.
    Raises ``ValueError`` where the config has no ``input_dim``, or lacks an ``n_classes`` it needs.
    """

    def __init__(self, config: TaskHeadConfig) -> None:
        super().__init__()
        if config.input_dim is None:
            raise ValueError("input_dim is missing: give the width of the encoder's output (output_dim)")
        self.config = config
        self.input_dim = config.input_dim
        self.output_dim = config.n_outputs

    def forward(self, embedding: Float[Tensor, "*batch H"]) -> dict[str, Tensor]:
        """``{"logits": (..., C), "probs": (..., C)}`` of embeddings ``(..., H)``."""
        raise NotImplementedError

    def outputs(self, logits: Float[Tensor, "*batch C"]) -> dict[str, Tensor]:
        """The dict that ``forward`` returns, from its logits."""
        return {"logits": logits, "probs": predictions(logits, self.config.task_type)}


def predictions(logits: Float[Tensor, "*batch C"], task_type: TaskType) -> Float[Tensor, "*batch C"]:
    """What the logits say: softmax (binary, multiclass), sigmoid (multilabel), themselves (regression).

    >>> predictions(torch.tensor([0.0, 0.0]), "multiclass"), predictions(torch.tensor([0.0]), "multilabel")
    (tensor([0.5000, 0.5000]), tensor([0.5000]))
    """
    if task_type in ("binary", "multiclass"):
        return torch.softmax(logits, dim=-1)
    return torch.sigmoid(logits) if task_type == "multilabel" else logits


def check_task_type(task_type: str) -> None:
    """Raises ``ValueError`` with the nearest type where there is no such type of task."""
    if task_type not in get_args(TaskType):
        raise ValueError(unknown("task_type", task_type, get_args(TaskType)))
