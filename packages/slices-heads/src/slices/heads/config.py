"""``TaskHeadConfig``: what a head is built from."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from .task_types import LossName, TaskType, loss_name

FEWEST_CLASSES: dict[TaskType, int] = {"multiclass": 2, "ordinal": 3}
COUNTED_BY_TYPE: dict[TaskType, int] = {"binary": 2, "regression": 1}


@dataclass(kw_only=True)
class TaskHeadConfig:
    """What a head is built from; the defaults of every head are here.

    ``name`` is the head's registered name and ``task_name`` the task's own, for people and logs.
    ``n_classes`` is 2 for binary tasks whatever is said and must be given for multiclass, multilabel and
    ordinal ones; it counts the targets of a regression (default 1) and the intervals of a survival task.
    ``input_dim`` is the embedding's width H. ``hidden_dims`` are the widths of the hidden layers where a
    head has them (``mlp``, ``attention``).

    ``loss`` is one of the type's ``TASK_LOSSES`` (default its first): a Gaussian regression has two outputs a
    target, one of quantiles one for each of ``quantiles``, of which 0.5, the median, is what it predicts.
    ``n_risks`` are the events that compete in a survival task.

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
    loss: LossName | None = None
    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9)
    n_risks: int = 1

    def __post_init__(self) -> None:
        self.hidden_dims = tuple(self.hidden_dims)
        self.quantiles = tuple(self.quantiles)
        loss_name(self.task_type, self.loss)
        self._check_counts()
        if self.input_dim is not None and self.input_dim < 1:
            raise ValueError(f"input_dim={self.input_dim}: must be 1 or more")
        if any(width < 1 for width in self.hidden_dims):
            raise ValueError(f"hidden_dims={self.hidden_dims}: every width must be 1 or more")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout}: must be in [0, 1)")
        check_quantiles(self.quantiles)

    def _check_counts(self) -> None:
        if self.task_type == "binary" and self.n_classes not in (None, 2):
            raise ValueError(
                f"n_classes={self.n_classes}: a binary task has 2 classes; "
                f"a task with {self.n_classes} is multiclass or multilabel"
            )
        fewest = FEWEST_CLASSES.get(self.task_type, 1)
        if self.n_classes is not None and self.n_classes < fewest:
            raise ValueError(
                f"n_classes={self.n_classes}: with task_type={self.task_type} it is {fewest} or more"
            )
        if self.n_risks < 1 or (self.n_risks > 1 and self.task_type != "survival"):
            raise ValueError(f"n_risks={self.n_risks}: survival tasks have 1 or more, others leave it out")

    @property
    def n_outputs(self) -> int:
        """C: classes, labels, targets or intervals. Raises ``ValueError`` where ``n_classes`` is missing."""
        n_classes = self.n_classes or COUNTED_BY_TYPE.get(self.task_type)
        if n_classes is None:
            raise ValueError(f"n_classes is missing: with task_type={self.task_type} it must be given")
        return n_classes


def check_quantiles(quantiles: tuple[float, ...]) -> None:
    """Raises ``ValueError`` unless they ascend, lie between 0 and 1, and 0.5 is among them."""
    ascend = all(low < high for low, high in pairwise((0.0, *quantiles, 1.0)))
    if not ascend or 0.5 not in quantiles:
        raise ValueError(
            f"quantiles={quantiles}: must ascend between 0 and 1, with 0.5 among them, as 0.1, 0.5, 0.9"
        )
