"""The linear probe on embeddings computed once: a convex problem, solved and not trained.

Letters: N rows (stays, or their steps), F features, C outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from slices.heads import TaskType, predictions
from slices.training.evaluation.folds import stratified_folds
from slices.training.evaluation.solvers import Line, log_losses, logistic_path, ridge_path, squared_errors

STRENGTHS = (1e5, 1e4, 1e3, 1e2, 1e1, 1.0, 0.1)
N_FOLDS = 5
DEFAULT_STRENGTH = 1e2  # where there are too few labels to choose


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe: ``predict`` gives what a head's ``probs`` are.

    ``strength`` is the penalty that was chosen, one number a fit (one a label or target).
    """

    task_type: TaskType
    mean: Float[Tensor, "F"]
    scale: Float[Tensor, "F"]
    weight: Float[Tensor, "F C"]
    bias: Float[Tensor, "C"]
    strength: tuple[float, ...]

    def predict(self, features: Float[Tensor, "N F"]) -> Float[Tensor, "N C"]:
        """Probabilities, or the predicted values of a regression, in float64."""
        logits = (features.to(self.mean) - self.mean) / self.scale @ self.weight + self.bias
        return predictions(logits, self.task_type)


@torch.no_grad()
def fit_probe(
    features: Float[Tensor, "N F"],
    label: Shaped[Tensor, "*label"],
    task_type: TaskType,
    *,
    n_classes: int = 2,
    label_mask: Bool[Tensor, "*label"] | None = None,
    group: Int[Tensor, "N"] | None = None,
    background: Float[Tensor, "M F"] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> LinearProbe:
    """L2-regularised logistic or ridge regression on standardised features.

    Minimises the sum of the losses plus ``strength / 2 * ||weight||²`` (the intercept is free), squared
    errors halved, so that ``strength`` is 1/C of scikit-learn's ``LogisticRegression`` and alpha of its
    ``Ridge``. The one of ``strengths`` with the least held-out loss in five folds is taken, stratified by
    label, whole groups at a time. Multilabel tasks and regressions of several targets are one fit each.
    A class without a label gets probability 0. The same input gives the same probe.

    Args:
        features: embeddings of the training rows, any float type.
        label: ``(N,)``, or ``(N, C)`` for multilabel tasks and regressions of several targets.
        task_type: decides the loss.
        n_classes: of a multiclass task.
        label_mask: like ``label``; True = there. What a missing label holds does not matter.
        group: patient ids, kept together in the folds; each row on its own by default.
        background: embeddings of rows with or without a label, to learn a prior from: weights are then
            expected where these vary most (a normal prior whose covariance is the correlation of these
            features, in place of the identity), which helps where labels are few. They also give mean and
            standard deviation.
        strengths: the penalties to choose from.
        seed: of the folds.

    Raises:
        ValueError: no label at all, a feature that is not finite, a strength that is not positive, or a
            shape that does not fit.

    >>> x = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    >>> probe = fit_probe(x, torch.tensor([1.0, 3.0, 5.0, 7.0]), "regression", strengths=[1e-9])
    >>> probe.predict(torch.tensor([[10.0]])).round(decimals=3)
    tensor([[21.]], dtype=torch.float64)
    """
    label = label[:, None] if label.ndim == 1 else label
    there = (
        torch.ones_like(label, dtype=torch.bool) if label_mask is None else label_mask.reshape(label.shape)
    )
    _check(features, label, there, task_type, background)
    x, mean, scale = _standardised(features, features[there.any(1)] if background is None else background)
    likely = None if background is None else _likely((background.double() - mean) / scale)
    x = x if likely is None else x @ likely
    groups = torch.arange(len(x), device=x.device) if group is None else group
    if task_type == "regression":
        problem = Problem(ridge_path, squared_errors)
    else:
        n_classes = n_classes if task_type == "multiclass" else 2
        problem = Problem(partial(logistic_path, n_classes=n_classes), log_losses)
    if not strengths or not all(0 < strength < math.inf for strength in strengths):
        raise ValueError(f"strengths={tuple(strengths)}: give at least one, all finite and above 0")
    strongest_first = sorted(strengths, reverse=True)
    fits = []
    for column, rows in zip(label.T, there.T, strict=True):
        strata = torch.zeros_like(column[rows]) if task_type == "regression" else column[rows]
        fold = stratified_folds(strata, groups[rows], N_FOLDS, seed)
        fits.append(_tuned(problem, x[rows], column[rows], fold, strongest_first))
    lines, chosen = zip(*fits, strict=True)
    if task_type == "multilabel":  # the logit of yes against no
        lines = tuple(Line(line.weight.diff(dim=1), line.bias.diff()) for line in lines)
    weight = torch.cat([line.weight for line in lines], dim=1)
    bias = torch.cat([line.bias for line in lines])
    weight = weight if likely is None else likely @ weight
    return LinearProbe(task_type, mean, scale, weight, bias, chosen)


class Problem(NamedTuple):
    """How to fit a path of penalties, and how wrong a fit is on each row."""

    solve: Callable[[Tensor, Tensor, Sequence[float]], list[Line]]
    losses: Callable[[Line, Tensor, Tensor], Tensor]


def _tuned(
    problem: Problem, x: Tensor, label: Tensor, fold: Tensor | None, strengths: Sequence[float]
) -> tuple[Line, float]:
    """The fit to all rows with the strength of the least held-out loss; ties go to the stronger."""
    if fold is None or len(strengths) == 1:
        strength = strengths[0] if len(strengths) == 1 else DEFAULT_STRENGTH
        return problem.solve(x, label, [strength])[0], strength
    held_out = x.new_zeros(len(strengths))
    for k in range(int(fold.max()) + 1):
        test, train = fold == k, fold != k
        lines = problem.solve(x[train], label[train], strengths)
        held_out += torch.stack([problem.losses(line, x[test], label[test]).sum() for line in lines])
    best = int(held_out.argmin())
    return problem.solve(x, label, strengths[: best + 1])[-1], strengths[best]


def _standardised(features: Tensor, among: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All rows in the mean and standard deviation of some, float64."""
    x, rows = features.double(), among.double()
    mean, std = rows.mean(0), rows.std(0, correction=0)
    scale = torch.where(std > 1e-6 * rows.abs().amax(0), std, 1.0)  # rounding is no variation
    return (x - mean) / scale, mean, scale


def _likely(x: Tensor) -> Tensor:
    """(F, F): a square root of the correlation of (M, F), scaled to leave the sum of variances as it is.

    An equal penalty on weights after this map is a normal prior with that covariance on those before it.
    """
    variance, axes = torch.linalg.eigh(x.T @ x / len(x))
    variance = variance.clamp_min(0)
    if not variance.any():  # all rows alike: no direction is likelier than another
        return torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    root: Tensor = axes * (variance * variance.sum() / variance.square().sum()).sqrt() @ axes.T
    return root


def _check(
    features: Tensor, label: Tensor, there: Tensor, task_type: TaskType, background: Tensor | None
) -> None:
    if len(label) != len(features):
        raise ValueError(f"{len(features)} rows of features for {len(label)} of labels")
    if task_type in ("binary", "multiclass") and label.shape[1] != 1:
        raise ValueError(f"{task_type}: expected one label a row, got {label.shape[1]}")
    if not there.any(0).all():
        lacking = ", ".join(str(column) for column in (~there.any(0)).nonzero().flatten().tolist())
        which = f" (label {lacking})" if label.shape[1] > 1 else ""
        raise ValueError(
            f"no label to learn from in these rows: the task, or one of its labels{which}, has none"
        )
    if not (features[there.any(1)].isfinite().all() and (background is None or background.isfinite().all())):
        raise ValueError("features are not finite: the encoder gave NaN or infinity for a stay")
