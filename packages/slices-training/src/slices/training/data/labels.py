"""Label tables: checked, laid out one row a stay, and cut down to a fraction."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from slices.encoders.registry import unknown
from slices.training.data.schema import TaskInfo
from slices.training.data.splits import uniform_hash
from slices.training.data.store import StayStore

N_QUANTILES = 10
EDGE = 1e-3  # hours: how far a label's time may lie from the end of its step


class TaskLabels(NamedTuple):
    """The labels of all stays S, in the order of the store.

    ``label`` is (S,), (S, C) or, with one label a step, (S, T) or (S, T, C): int64 for classes,
    float32 otherwise, 0 where missing; ``mask`` likewise says where there is one. ``until (S,)`` is
    the prediction time in hours, at which the input ends: infinite with one label a step.
    """

    label: npt.NDArray[Any]
    mask: npt.NDArray[np.bool_]
    until: npt.NDArray[np.float32]

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """Which stays have any label, (S,)."""
        return np.asarray(self.mask.reshape(len(self.mask), -1).any(axis=1))

    def take(self, stays: npt.NDArray[np.int64]) -> TaskLabels:
        """The labels of the stays at these positions."""
        return TaskLabels(self.label[stays], self.mask[stays], self.until[stays])


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
        key = ["stay_id", "column", "prediction_time"]
        _refuse(rows, pl.struct(key).is_duplicated(), task, "is given twice")
        if not task.per_step:
            several = pl.col("prediction_time").n_unique().over("stay_id") > 1
            _refuse(rows, several, task, "has other prediction times beside it; only a per_step task may")


def _refuse(rows: pl.DataFrame, bad: pl.Expr, task: TaskInfo, what: str) -> None:
    wrong = rows.filter(bad)
    if len(wrong):
        first = wrong.row(0, named=True)
        raise ValueError(
            f"task {task.name!r}, stay {first['stay_id']}: the label {first['value']} at "
            f"{first['prediction_time']} h {what} ({len(wrong)} such labels). Correct it or leave it out"
        )


def task_labels(store: StayStore, name: str, *, n_steps: int | None, resolution: float | None) -> TaskLabels:
    """The labels of a task for every stay of a dataset.

    With one label a step, step k has the label whose prediction time is the end of bin k; labels at
    other times are left out. ``resolution=None`` (measured timestamps) is refused there.
    """
    tasks = store.manifest.tasks
    if name not in tasks:
        raise ValueError(unknown("task", name, tasks))
    task, rows = tasks[name], store.labels(name)
    check_labels(rows, {name: task})
    order = np.argsort(store.stay_id)
    stay = order[np.searchsorted(store.stay_id, rows["stay_id"].to_numpy(), sorter=order)]
    time, column = rows["prediction_time"].to_numpy(), rows["column"].to_numpy()
    shape: tuple[int, ...] = (len(store),)
    index: tuple[npt.NDArray[Any], ...] = (stay,)
    keep = np.ones(len(rows), dtype=bool)
    if task.per_step:
        if resolution is None or n_steps is None:
            raise ValueError(
                f"task {name!r} has one label a time step: data.resolution=timestamps has no fixed steps. "
                "Give a bin width in hours, e.g. data.resolution=1.0"
            )
        step = np.rint(time / resolution).astype(np.int64) - 1
        keep = (np.abs((step + 1) * resolution - time) < EDGE) & (step >= 0) & (step < n_steps)
        shape, index = (*shape, n_steps), (*index, step)
    if task.task_type == "multilabel":
        shape, index = (*shape, task.width), (*index, column)
    index = tuple(part[keep] for part in index)
    label = np.zeros(shape, dtype=np.int64 if task.task_type in ("binary", "multiclass") else np.float32)
    mask = np.zeros(shape, dtype=bool)
    label[index], mask[index] = rows["value"].to_numpy()[keep], True
    until = np.full(len(store), np.inf, dtype=np.float32)
    if not task.per_step:
        until[stay] = time
    return TaskLabels(label, mask, until)


def label_subset(
    labels: TaskLabels, task: TaskInfo, stay_id: npt.NDArray[np.int64], fraction: float, seed: int
) -> npt.NDArray[np.int64]:
    """Positions of the stays whose labels are kept: stratified, and nested for one seed.

    Each stratum is put in an order by a hash of stay and seed, and a stay at rank r of n is taken
    where (r + 1/2) / n < fraction, so that a smaller fraction lies inside a larger one. Strata are the
    classes; with one label a step whether any is positive (binary) or the highest class; with several
    labels how many are positive; deciles of a regression. At least one stay of each class, and for
    each label at least one positive, is always taken where there is one, however small the fraction.
    """
    draw = uniform_hash(stay_id, seed, stream=3)
    strata = _strata(labels, task)
    order = np.lexsort((draw, strata))
    _, start, size = np.unique(strata[order], return_index=True, return_counts=True)
    rank = np.empty(len(order))
    rank[order] = np.arange(len(order)) - np.repeat(start, size)
    group_size = np.empty(len(order))
    group_size[order] = np.repeat(size, size)
    chosen = (rank + 0.5) / group_size < fraction
    if task.task_type == "regression":
        chosen[np.argmin((rank + 0.5) / group_size)] = True
    else:
        chosen |= rank == 0
    if task.task_type == "multilabel":
        chosen[_first_positives(labels, draw)] = True
    return np.flatnonzero(chosen)


def _strata(labels: TaskLabels, task: TaskInfo) -> npt.NDArray[np.int64]:
    flat = np.where(labels.mask, labels.label, 0).reshape(len(labels.mask), -1)
    if task.task_type == "regression":
        mean = flat.sum(axis=1) / np.maximum(labels.mask.reshape(len(flat), -1).sum(axis=1), 1)
        place = np.argsort(np.argsort(mean, kind="stable"))
        return np.asarray(place * N_QUANTILES // len(mean))
    if task.task_type == "multilabel":
        return np.asarray(_positive(labels).sum(axis=1))
    return np.asarray(flat.max(axis=1), dtype=np.int64)


def _positive(labels: TaskLabels) -> npt.NDArray[np.bool_]:
    """Of several labels, which each stay ever has, (S, C)."""
    positive = (labels.label > 0) & labels.mask
    return np.asarray(positive.reshape(len(positive), -1, positive.shape[-1]).any(axis=1))


def _first_positives(labels: TaskLabels, draw: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The first positive stay of each label, in the order of the draw."""
    positive = _positive(labels)
    first = np.where(positive, draw[:, None], np.inf).argmin(axis=0)
    return np.asarray(first[positive.any(axis=0)])
