"""What a hospital would use today: trees and logistic regression on summary features.

Both take the columns of ``summary_features``, NaN included, and predict what a head's ``probs`` are. Their
settings were chosen once, by five-fold cross-validation on in-hospital mortality inside set-a of PhysioNet
2012, and serve every task (docs/results.md has how they fare).

Letters: N rows, F features, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from slices.heads import TaskType
from slices.heads.registry import unknown
from slices.training.evaluation.probe import fit_probe

Array = NDArray[np.float64]

# Half or double the leaves, the share of features or the trees: AUROC within .006 on the same five folds.
TREES = {
    "learning_rate": 0.02,
    "num_leaves": 15,
    "feature_fraction": 0.2,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
}
N_TREES = 800
LINE_STRENGTHS = (1e5, 1e4, 3e3, 1e3, 3e2, 1e2, 10.0)  # many correlated features need a strong penalty
OBJECTIVES = {"binary": "binary", "multiclass": "multiclass", "multilabel": "binary", "regression": "l2"}


class Baseline(Protocol):
    """A fitted baseline: what ``fit_baseline`` gives."""

    def predict(self, features: ArrayLike) -> Array:
        """(N, F) -> (N, C): probabilities, or the predicted values of a regression."""


def fit_baseline(
    name: str,
    features: ArrayLike,
    label: ArrayLike,
    task_type: TaskType,
    *,
    n_classes: int = 2,
    label_mask: ArrayLike | None = None,
    seed: int = 0,
) -> Baseline:
    """Fits a baseline: ``lightgbm``, or ``logistic_regression`` (ridge regression for a regression).

    Args:
        name: which.
        features: (N, F) of the training rows; NaN where a variable was not observed.
        label: (N,), or (N, C) for multilabel tasks and regressions of several targets.
        task_type: decides the loss.
        n_classes: of a multiclass task.
        label_mask: like ``label``; True = there.
        seed: of what is random in the fit.

    Raises:
        ValueError: no such baseline, or no label at all.
        ImportError: LightGBM is not installed; it comes with the extra ``baselines``.

    >>> features = np.arange(40.0)[:, None]
    >>> model = fit_baseline("logistic_regression", features, features[:, 0] > 20, "binary")
    >>> model.predict([[0.0], [40.0], [np.nan]])[:, 1].round()
    array([0., 1., 0.])
    """
    if name not in BASELINES:
        raise ValueError(unknown("baseline", name, BASELINES))
    labels = np.asarray(label, dtype=np.float64)
    labels = labels[:, None] if labels.ndim == 1 else labels
    if label_mask is not None:
        labels = np.where(np.asarray(label_mask).reshape(labels.shape), labels, np.nan)
    if np.isnan(labels).all(0).any():
        raise ValueError("no label to learn from: a task, or one of its labels, has none in these rows")
    labelled = np.isfinite(labels).any(1)
    rows = np.asarray(features, dtype=np.float64)[labelled]
    return BASELINES[name](rows, labels[labelled], task_type, n_classes, seed)


class Trees:
    """LightGBM: Ke et al., "LightGBM: a highly efficient gradient boosting decision tree" (2017).

    One model, or one for each label or target. Leaves get smaller where rows are few.
    """

    def __init__(self, features: Array, label: Array, task_type: TaskType, n_classes: int, seed: int) -> None:
        self.task_type = task_type
        options = {**TREES, "objective": OBJECTIVES[task_type], "seed": seed}
        if task_type == "multiclass":
            options["num_class"] = n_classes
        self.boosters = [_boosted(features, column, options) for column in label.T]

    def predict(self, features: ArrayLike) -> Array:
        """(N, F) -> (N, C)."""
        rows = np.asarray(features, dtype=np.float64)
        threads = torch.get_num_threads()
        predicted = [np.asarray(booster.predict(rows, num_threads=threads)) for booster in self.boosters]
        if self.task_type == "multiclass":
            return predicted[0]
        if self.task_type == "binary":
            return np.stack([1 - predicted[0], predicted[0]], axis=1)
        return np.stack(predicted, axis=1)


def _boosted(features: Array, label: Array, options: dict[str, Any]) -> Any:
    lightgbm = _lightgbm()
    rows = np.isfinite(label)
    fitting = {
        "min_data_in_leaf": int(np.clip(rows.sum() // 20, 5, 20)),
        "num_threads": torch.get_num_threads(),
        "deterministic": True,
        "force_row_wise": True,  # or LightGBM chooses by a race
        "verbose": -1,
    }
    return lightgbm.train({**options, **fitting}, lightgbm.Dataset(features[rows], label[rows]), N_TREES)


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError as error:
        raise ImportError("LightGBM is not installed: pip install 'slices-training[baselines]'") from error
    return lightgbm


class Lines:
    """Logistic or ridge regression (``fit_probe``) on features made harmless to a linear model.

    Values go to a signed logarithmic scale and are cut at the training rows' 1st and 99th percentile; each
    comes with its distance to their median, since too low and too high are both bad; what was not
    observed becomes their mean.
    """

    def __init__(self, features: Array, label: Array, task_type: TaskType, n_classes: int, seed: int) -> None:
        never = ~np.isfinite(features).any(0)
        features = np.where(never, 0.0, features)  # a constant says nothing either
        logs = _signed_log(features)
        self.low, self.median, self.high = np.nanquantile(logs, [0.01, 0.5, 0.99], axis=0)
        self.mean = np.nanmean(self._scaled(features), axis=0)
        target = torch.from_numpy(label if task_type in ("multilabel", "regression") else label[:, 0])
        self.probe = fit_probe(
            self._prepared(features),
            target,
            task_type,
            n_classes=n_classes,
            label_mask=target.isfinite(),
            strengths=LINE_STRENGTHS,
            seed=seed,
        )

    def predict(self, features: ArrayLike) -> Array:
        """(N, F) -> (N, C)."""
        return self.probe.predict(self._prepared(np.asarray(features, dtype=np.float64))).numpy()

    def _prepared(self, features: Array) -> Tensor:
        scaled = self._scaled(features)
        return torch.from_numpy(np.where(np.isnan(scaled), self.mean, scaled))

    def _scaled(self, features: Array) -> Array:
        cut = np.clip(_signed_log(features), self.low, self.high)
        return np.concatenate([cut, np.abs(cut - self.median)], axis=1)


def _signed_log(x: Array) -> Array:
    """NaN where the value is not finite."""
    finite = np.where(np.isfinite(x), x, np.nan)
    logs: Array = np.sign(finite) * np.log1p(np.abs(finite))
    return logs


BASELINES: dict[str, Callable[[Array, Array, TaskType, int, int], Baseline]] = {
    "lightgbm": Trees,
    "logistic_regression": Lines,
}
