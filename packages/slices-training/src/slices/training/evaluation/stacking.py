"""Baselines that learn further tasks too: what they say of those joins the features of the first task.

Letters: N rows, F features, C outputs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from slices.heads import TaskType
from slices.training.evaluation.baselines import Array, Baseline, fit_baseline
from slices.training.evaluation.folds import stratified_folds

log = logging.getLogger(__name__)
N_FOLDS = 5


class Labels(NamedTuple):
    """Of one task, as ``fit_baseline`` takes them, one a row."""

    label: ArrayLike
    label_mask: ArrayLike
    task_type: TaskType
    n_classes: int


class Stacked:
    """A baseline on features and on what baselines of further tasks say.

    After Wolpert, "Stacked generalization" (1992).
    """

    def __init__(self, others: list[Baseline], last: Baseline) -> None:
        self.others, self.last = others, last
        self.chosen: list[dict[str, Any]] = last.chosen

    def predict(self, features: ArrayLike) -> Array:
        """(N, F) -> (N, C): probabilities, or the predicted values of a regression."""
        rows = np.asarray(features, dtype=np.float64)
        return self.last.predict(np.hstack([rows, *(other.predict(rows) for other in self.others)]))


def fit_stacked(
    name: str,
    features: ArrayLike,
    labels: Labels,
    others: Mapping[str, Labels],
    group: ArrayLike,
    *,
    tune: bool = False,
    seed: int = 0,
) -> Baseline:
    """Fits a baseline to a task, with ``others`` learnt on the same rows first.

    Of training rows the other baselines are asked out of five folds, stratified by the first task's label,
    whole groups at a time, so that they speak of no row whose labels they know. A task without a label in
    some fold's training rows, or too few rows for folds, is left out.

    Args:
        name: which baseline; see ``fit_baseline``.
        features: (N, F) of the training rows.
        labels: of the task.
        others: those of further tasks, by name.
        group: (N,) patients.
        tune, seed: as ``fit_baseline`` has them.

    Raises:
        ValueError: no such baseline, or no label of the first task.
    """
    rows, groups = np.asarray(features, dtype=np.float64), np.asarray(group)
    fold = _folds(labels, groups, seed) if others else None
    models, said = [], [rows]
    for task, given in others.items():
        out_of_fold = None if fold is None else _out_of_fold(name, rows, given, groups, fold, seed)
        if out_of_fold is None:
            log.info("too few labels of %s: left out", task)
            continue
        models.append(_fitted(name, rows, given, groups, np.arange(len(rows)), seed=seed))
        said.append(out_of_fold)
    last = _fitted(name, np.hstack(said), labels, groups, np.arange(len(rows)), tune=tune, seed=seed)
    return Stacked(models, last) if models else last


def _folds(labels: Labels, group: Array, seed: int) -> Array | None:
    label = torch.as_tensor(labels.label)
    classes = labels.task_type in ("binary", "multiclass")
    strata = label.flatten() if classes else torch.zeros(len(label))
    fold = stratified_folds(strata, torch.as_tensor(group), N_FOLDS, seed)
    return None if fold is None else fold.numpy()


def _out_of_fold(
    name: str, rows: Array, labels: Labels, group: Array, fold: Array, seed: int
) -> Array | None:
    """(N, C): of each row by a model that has not seen its fold; None where a model has no label."""
    there = np.asarray(labels.label_mask, dtype=bool).reshape(len(rows), -1)
    if not all(there[fold != k].any(0).all() for k in np.unique(fold)):
        return None
    parts = {}
    for k in np.unique(fold):
        model = _fitted(name, rows, labels, group, np.flatnonzero(fold != k), seed=seed)
        parts[k] = model.predict(rows[fold == k])
    said = np.empty((len(rows), next(iter(parts.values())).shape[1]))
    for k, part in parts.items():
        said[fold == k] = part
    return said


def _fitted(
    name: str,
    rows: Array,
    labels: Labels,
    group: Array,
    among: NDArray[np.int64],
    *,
    seed: int,
    tune: bool = False,
) -> Baseline:
    return fit_baseline(
        name,
        rows[among],
        np.asarray(labels.label)[among],
        labels.task_type,
        n_classes=labels.n_classes,
        label_mask=np.asarray(labels.label_mask)[among],
        group=group[among],
        tune=tune,
        seed=seed,
    )
