"""Label tables checked, and cut down to a fraction."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from slices.training.data.schema import TaskInfo
from slices.training.data.splits import uniform_hash

N_QUANTILES = 10


def check_labels(labels: pl.DataFrame, tasks: dict[str, TaskInfo]) -> None:
    """Raise ``ValueError`` naming stay and task of a label that cannot be one."""
    for name in labels["task"].unique():
        if name not in tasks:
            raise ValueError(f"the label table has a task that the source does not declare: {name!r}")
    for task in tasks.values():
        rows, value = labels.filter(pl.col("task") == task.name), pl.col("value")
        _refuse(rows, ~value.is_finite().fill_null(False), task, "is not a finite number")
        _refuse(rows, ~pl.col("prediction_time").is_finite().fill_null(False), task, "has no prediction time")
        _refuse(
            rows, ~pl.col("column").is_between(0, task.width - 1), task, f"has a column over {task.width - 1}"
        )
        if task.n_classes is not None:
            top = 1 if task.task_type == "multilabel" else task.n_classes - 1
            classes = value.is_between(0, top) & (value == value.round())
            _refuse(rows, ~classes, task, f"is not a class from 0 to {top}")
        if task.n_risks is not None:
            _check_survival(rows, task, task.n_risks)
        key = ["stay_id", "column", "prediction_time"]
        _refuse(rows, pl.struct(key).is_duplicated(), task, "is given twice")


def _check_survival(rows: pl.DataFrame, task: TaskInfo, n_risks: int) -> None:
    """Raise as ``check_labels`` for a time before the prediction, an event there is not, one without both."""
    value, is_time = pl.col("value"), pl.col("column") == 0
    _refuse(rows, is_time & (value < 0), task, "is a time before the prediction time")
    known = value.is_between(0, n_risks) & (value == value.round())
    _refuse(rows, ~is_time & ~known, task, f"is not an event from 0 (censored) to {n_risks}")
    both = pl.len().over("stay_id", "prediction_time") == 2
    _refuse(rows, ~both, task, "is not of two numbers, time (column 0) and event (column 1),")


def _refuse(rows: pl.DataFrame, bad: pl.Expr, task: TaskInfo, what: str) -> None:
    wrong = rows.filter(bad)
    if len(wrong):
        first = wrong.row(0, named=True)
        raise ValueError(
            f"task {task.name!r}, stay {first['stay_id']}: its label {what} ({len(wrong)} such labels). "
            "Correct it or leave it out"
        )


def label_subset(
    stay_id: npt.NDArray[np.int64],
    label: npt.NDArray[Any],
    label_mask: npt.NDArray[np.bool_],
    task: TaskInfo,
    fraction: float,
    seed: int,
) -> npt.NDArray[np.int64]:
    """Positions of the samples whose labels are kept: whole stays, stratified, and nested for one seed.

    Each stratum is put in an order by a hash of stay and seed, and a stay at rank r of n is taken
    where (r + 1/2) / n < fraction, so that a smaller fraction lies inside a larger one. Strata are the
    classes, and in survival the events; of several labels in a stay the highest class; in a multilabel
    task how many are positive; deciles of a regression; and stays without any label. At least one stay of
    each class, and for each label at least one positive, is always taken where there is one, however small
    the fraction.

    ``stay_id (N,)``; ``label`` and ``label_mask`` as in ``Samples``.
    """
    if task.task_type == "survival":
        label, label_mask = label[..., 1], label_mask[..., 1]
    stays, of_sample = np.unique(stay_id, return_inverse=True)
    draw = uniform_hash(stays, seed, stream=3)
    flat, known = label.reshape(len(label), -1), label_mask.reshape(len(label), -1)
    positive = _any_in_stay(label * label_mask, of_sample, len(stays), task)
    strata = _strata(flat, known, of_sample, positive, task)
    order = np.lexsort((draw, strata))
    _, start, size = np.unique(strata[order], return_index=True, return_counts=True)
    rank = np.empty(len(order))
    rank[order] = np.arange(len(order)) - np.repeat(start, size)
    group_size = np.empty(len(order))
    group_size[order] = np.repeat(size, size)
    chosen = (rank + 0.5) / group_size < fraction
    if task.task_type == "regression":
        chosen[np.argmin(np.where(strata < 0, np.inf, (rank + 0.5) / group_size))] = True
    else:
        chosen |= rank == 0
    if task.task_type == "multilabel":  # the first positive stay of each label, in the order of the draw
        first = np.where(positive, draw[:, None], np.inf).argmin(axis=0)
        chosen[first[positive.any(axis=0)]] = True
    return np.flatnonzero(chosen[of_sample])


def _any_in_stay(
    label: npt.NDArray[Any], of_sample: npt.NDArray[np.int64], n_stays: int, task: TaskInfo
) -> npt.NDArray[np.bool_]:
    """Of several labels, which each stay ever has, (S, C)."""
    width = task.width if task.task_type == "multilabel" else 1
    positive = (label > 0).reshape(len(label), -1, width).any(axis=1)
    found = np.zeros((n_stays, width), dtype=bool)
    np.logical_or.at(found, of_sample, positive)
    return found


def _strata(
    label: npt.NDArray[Any],
    known: npt.NDArray[np.bool_],
    of_sample: npt.NDArray[np.int64],
    positive: npt.NDArray[np.bool_],
    task: TaskInfo,
) -> npt.NDArray[np.int64]:
    """Those without a label, as samples of several tasks may be, are one of their own: -1."""
    n_stays = len(positive)
    labelled = np.bincount(of_sample, known.sum(axis=1), n_stays) > 0
    if task.task_type == "multilabel":
        found = positive.sum(axis=1)
    elif task.task_type == "regression":
        total = np.bincount(of_sample, (label * known).sum(axis=1), n_stays)
        mean = total / np.maximum(np.bincount(of_sample, known.sum(axis=1), n_stays), 1)
        place = np.argsort(np.argsort(np.where(labelled, mean, np.inf), kind="stable"))
        found = place * N_QUANTILES // max(labelled.sum(), 1)
    else:
        found = np.zeros(n_stays, dtype=label.dtype)
        np.maximum.at(found, of_sample, (label * known).max(axis=1))
    return np.where(labelled, found, -1).astype(np.int64)
