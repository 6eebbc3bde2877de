"""Task metrics: the same names for every type of task, and missing labels left out.

Letters: B stays, T time steps, N rows (stays, or their steps), C outputs. Predictions and labels have
the shapes that slices-heads gives and takes.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional import mean_absolute_error, mean_squared_error, r2_score
from torchmetrics.functional.classification import binary_auroc, binary_average_precision, binary_f1_score
from torchmetrics.utilities.data import dim_zero_cat

from slices.heads import TaskType
from slices.training.evaluation.survival_metrics import SURVIVAL_METRICS, SurvivalMetrics

CLASSIFICATION_METRICS = ("accuracy", "auroc", "auprc", "f1")
REGRESSION_METRICS = ("mse", "mae", "r2")


def metric_names(task_type: TaskType) -> tuple[str, ...]:
    """The names of the metrics of a type of task.

    >>> metric_names("regression")
    ('mse', 'mae', 'r2')
    """
    own = {"regression": REGRESSION_METRICS, "survival": SURVIVAL_METRICS}
    return own.get(task_type, CLASSIFICATION_METRICS)


class TaskMetrics(Metric):
    """Gathers predictions and labels over batches and ranks; ``compute`` gives ``task_scores`` of them all.

    Exact rather than binned, so every prediction is kept until ``reset``; ``update`` does not wait for
    the device.

    >>> metrics = TaskMetrics("binary")
    >>> metrics.update(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]]), torch.tensor([0, 1, 0]))
    >>> {name: round(value.item(), 3) for name, value in metrics.compute().items()}
    {'accuracy': 0.667, 'auroc': 1.0, 'auprc': 1.0, 'f1': 0.667}
    """

    full_state_update = False
    probs: list[Tensor]
    label: list[Tensor]

    def __init__(self, task_type: TaskType) -> None:
        super().__init__()
        self.task_type = task_type
        self.add_state("probs", default=[], dist_reduce_fx="cat")
        self.add_state("label", default=[], dist_reduce_fx="cat")

    def update(
        self,
        probs: Float[Tensor, "*batch C"],
        label: Shaped[Tensor, "*label"],
        label_mask: Bool[Tensor, "*label"] | None = None,
    ) -> None:
        """Adds a batch; where ``label_mask`` is False the label may be anything."""
        known = label.float() if label_mask is None else torch.where(label_mask, label.float(), torch.nan)
        rows = probs.detach().float().flatten(0, -2)
        self.probs.append(rows)
        self.label.append(known.reshape(len(rows), -1))

    def compute(self) -> dict[str, Tensor]:
        """The metrics by name, each a 0-d tensor; NaN where the labels seen do not define it."""
        probs, label = dim_zero_cat(self.probs), dim_zero_cat(self.label)
        if self.task_type in ("binary", "multiclass", "ordinal"):
            label = label[:, 0]
        return task_scores(self.task_type, probs, label, label.isfinite())


def task_metrics(task_type: TaskType) -> TaskMetrics | SurvivalMetrics:
    """The metrics of a type of task, by ``metric_names``."""
    return SurvivalMetrics() if task_type == "survival" else TaskMetrics(task_type)


def task_scores(
    task_type: TaskType,
    probs: Float[Tensor, "N C"],
    label: Shaped[Tensor, "*label"],
    label_mask: Bool[Tensor, "*label"] | None = None,
) -> dict[str, Tensor]:
    """All metrics of predictions, each a 0-d tensor.

    Accuracy is the share of right classes, or of right labels (multilabel, at 0.5). AUROC, AUPRC (average
    precision) and F1 are those of class 1 (binary), or the mean over one class against the rest
    (multiclass) or over the labels (multilabel), those left out on which the metric is not defined.
    Regression: the errors over all targets, and the mean over targets of R². NaN where nothing defines
    a metric.

    >>> task_scores("regression", torch.tensor([[1.0], [4.0]]), torch.tensor([1.0, 3.0]))["mse"]
    tensor(0.5000)
    """
    mask = torch.ones_like(label, dtype=torch.bool) if label_mask is None else label_mask
    if task_type == "regression":
        return _regression_scores(probs, label.reshape(probs.shape), mask.reshape(probs.shape))
    if task_type == "multilabel":
        guess = probs >= 0.5
        right = (guess == (label == 1))[mask]
        columns = [(probs[m, c], guess[m, c], label[m, c] == 1) for c, m in enumerate(mask.unbind(1))]
    else:
        probs, label = probs[mask], label[mask]
        chosen = probs.argmax(-1)
        right = chosen == label
        classes = (1,) if task_type == "binary" else range(probs.shape[1])
        columns = [(probs[:, c], chosen == c, label == c) for c in classes]
    return {"accuracy": right.float().mean(), **_mean_over_columns(columns)}


def _mean_over_columns(columns: list[tuple[Tensor, Tensor, Tensor]]) -> dict[str, Tensor]:
    """Means over the columns (probability, guess, truth) on which a metric is defined."""
    found = [(score, truth.long()) for score, _, truth in columns if truth.any()]
    varied = [(score, truth) for score, truth in found if not truth.all()]
    named = [(guess.long(), truth.long()) for _, guess, truth in columns if (guess | truth).any()]
    return {
        "auroc": _mean(binary_auroc(score, truth) for score, truth in varied),
        "auprc": _mean(binary_average_precision(score, truth) for score, truth in found),
        "f1": _mean(binary_f1_score(guess, truth) for guess, truth in named),
    }


def _regression_scores(prediction: Tensor, label: Tensor, mask: Tensor) -> dict[str, Tensor]:
    if not mask.any():
        return dict.fromkeys(REGRESSION_METRICS, torch.tensor(torch.nan))
    columns = [(p[m], y[m]) for p, y, m in zip(prediction.T, label.T, mask.T, strict=True)]
    return {
        "mse": mean_squared_error(prediction[mask], label[mask]),
        "mae": mean_absolute_error(prediction[mask], label[mask]),
        "r2": _mean(r2_score(p, y) for p, y in columns if len(y) > 1 and bool((y != y[0]).any())),
    }


def _mean(values: Iterable[Tensor]) -> Tensor:
    listed = list(values)
    return torch.stack(listed).mean() if listed else torch.tensor(torch.nan)
