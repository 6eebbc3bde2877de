"""What a hospital would use today: trees and logistic regression on summary features.

Both take the columns of ``summary_features``, NaN included, and predict what a head's ``probs`` are. The
settings here were chosen once, by five-fold cross-validation on in-hospital mortality inside set-a of
PhysioNet 2012 (docs/results.md has how they fare); ``tune`` chooses anew for other data.

Letters: N rows, F features, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from slices.heads import TaskType
from slices.heads.registry import unknown
from slices.training.baseline.tuning import tuned_trees
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
    """A fitted baseline: what ``fit_baseline`` gives. ``chosen``: its settings, one dict a fit."""

    chosen: list[dict[str, Any]]

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
    group: ArrayLike | None = None,
    tune: bool = False,
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
        group: (N,) patients, whose rows stay together where settings are chosen; by default each row is one.
        tune: choose the trees' settings by cross-validation in these rows (the line's penalty always is).
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
    groups = np.arange(len(labels)) if group is None else np.asarray(group)
    task = BaselineTask(task_type, n_classes, groups[labelled], tune, seed)
    return BASELINES[name](rows, labels[labelled], task)


class BaselineTask(NamedTuple):
    """What is fitted beside features and labels: see ``fit_baseline``."""

    task_type: TaskType
    n_classes: int
    group: NDArray[np.int64]
    tune: bool
    seed: int


class Trees:
    """LightGBM: Ke et al., "LightGBM: a highly efficient gradient boosting decision tree" (2017).

    One model, or one for each label or target. Leaves get smaller where rows are few.
    """

    def __init__(self, features: Array, label: Array, task: BaselineTask) -> None:
        self.task_type = task.task_type
        options = {**TREES, "objective": OBJECTIVES[task.task_type], "seed": task.seed}
        if task.task_type == "multiclass":
            options["num_class"] = task.n_classes
        fits = [_boosted(features, column, options, task) for column in label.T]
        self.boosters = [booster for booster, _ in fits]
        self.chosen = [settings for _, settings in fits]

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


def _boosted(
    features: Array, label: Array, options: dict[str, Any], task: BaselineTask
) -> tuple[Any, dict[str, Any]]:
    """A model of one label, and its settings."""
    lightgbm = _lightgbm()
    rows = np.isfinite(label)
    settings = {
        **options,
        "num_iterations": N_TREES,
        "min_data_in_leaf": int(np.clip(rows.sum() // 20, 5, 20)),
        "num_threads": torch.get_num_threads(),
        "deterministic": True,
        "force_row_wise": True,  # or LightGBM chooses by a race
        "verbose": -1,
    }
    if task.tune:
        settings = tuned_trees(features[rows], label[rows], task.group[rows], settings)
    fitting = {name: value for name, value in settings.items() if name != "cv_loss"}
    n_trees = fitting.pop("num_iterations")
    return lightgbm.train(fitting, lightgbm.Dataset(features[rows], label[rows]), n_trees), settings


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

    def __init__(self, features: Array, label: Array, task: BaselineTask) -> None:
        never = ~np.isfinite(features).any(0)
        features = np.where(never, 0.0, features)  # a constant says nothing either
        logs = _signed_log(features)
        self.low, self.median, self.high = np.nanquantile(logs, [0.01, 0.5, 0.99], axis=0)
        self.mean = np.nanmean(self._scaled(features), axis=0)
        of_each = task.task_type in ("multilabel", "regression")
        target = torch.from_numpy(label if of_each else label[:, 0])
        self.probe = fit_probe(
            self._prepared(features),
            target,
            task.task_type,
            n_classes=task.n_classes,
            label_mask=target.isfinite(),
            group=torch.from_numpy(task.group),
            strengths=LINE_STRENGTHS,
            seed=task.seed,
        )
        self.chosen = [{"strength": strength} for strength in self.probe.strength]

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


BASELINES: dict[str, Callable[[Array, Array, BaselineTask], Baseline]] = {
    "lightgbm": Trees,
    "logistic_regression": Lines,
}
