"""What is trained and predicted on: stays, windows of them, or what was known at a prediction time."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from slices.training.data.labels import check_labels
from slices.training.data.schema import TaskInfo
from slices.training.data.store import StayStore
from slices.training.data.views import Array, Index, View
from slices.training.memory import physical_memory

log = logging.getLogger(__name__)
A_SAMPLE = 64  # bytes at most that say where a sample is
EDGE = 1e-3  # hours: how far a label's time may lie from the end of its step


@dataclass(kw_only=True)
class WindowConfig:
    """Long stays, piece by piece.

    A stay is cut into windows of ``length`` hours that begin every ``stride`` hours (by default where the one
    before ends) until its end is seen; the last one may be shorter. With ``random`` each window of the
    training split begins up to a stride earlier or later, within the stay and drawn anew every epoch. Where a
    task has one label a stay, the window is the ``length`` hours before the prediction time instead. Times
    stay hours since admission.
    """

    length: float
    stride: float | None = None
    random: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.length < math.inf:
            raise ValueError(f"length={self.length}: allowed is a positive number of hours")
        if self.stride is not None and not 0 < self.stride <= self.length:
            raise ValueError(f"stride={self.stride}: allowed is above 0, up to length={self.length}")

    @property
    def step(self) -> float:
        """Hours from the beginning of one window to that of the next."""
        return self.stride or self.length


class Samples(NamedTuple):
    """N samples, by stay and time.

    ``stay (N,)`` is a position in the store; ``start`` and ``until (N,)`` are the hours between which the
    sample sees its stay. With a task, ``label`` is (N,), (N, C) or, with one label a step, (N, T) or
    (N, T, C): int64 for classes, float32 otherwise, 0 where missing; ``label_mask`` likewise says where
    there is one. In survival C is 2, time and event.
    """

    stay: Index
    start: Array
    until: Array
    label: npt.NDArray[Any] | None = None
    label_mask: npt.NDArray[np.bool_] | None = None

    def take(self, rows: Index) -> Samples:
        """The samples at these positions."""
        label = None if self.label is None else self.label[rows]
        label_mask = None if self.label_mask is None else self.label_mask[rows]
        return Samples(self.stay[rows], self.start[rows], self.until[rows], label, label_mask)


def unlabelled(store: StayStore, view: View, window: WindowConfig | None) -> Samples:
    """Every stay of a dataset, or every window of every stay."""
    stays = np.arange(len(store))
    if window is None:
        return Samples(stays, np.zeros(len(store), np.float32), np.full(len(store), np.inf, np.float32))
    count = _n_windows(store.length_hours, view.horizon, window)
    if (needed := int(count.sum()) * A_SAMPLE) > physical_memory():
        raise ValueError(
            f"data.window makes {count.sum():,} samples, and their places alone take {needed / 1e9:,.0f} GB: "
            f"give a greater stride than {window.step:g} hours"
        )
    stay = np.repeat(stays, count)
    place = np.arange(len(stay)) - np.repeat(np.cumsum(count) - count, count)
    start = (place * window.step).astype(np.float32)
    return Samples(stay, start, start + np.float32(window.length))


def _n_windows(length_hours: Array, horizon: float, window: WindowConfig) -> Index:
    beyond = np.minimum(length_hours, horizon) - window.length
    return 1 + np.ceil(np.maximum(beyond - EDGE, 0) / window.step).astype(np.int64)


def labelled(
    store: StayStore, task: TaskInfo, view: View, window: WindowConfig | None, *, per_step: bool
) -> Samples:
    """The samples of a task, those without any label left out.

    With ``per_step`` (for a task with one label a step) a sample is a stay or window, and step k has the
    label whose prediction time is the end of bin k; labels at other times, or after the horizon, are left
    out, and each belongs to the first window that holds it. Otherwise a sample is a stay and one
    prediction time, at which its input ends.

    Raises ``ValueError`` for ``per_step`` where the task has one label a stay, or where there are measured
    timestamps, which are no fixed steps to label.
    """
    name, rows = task.name, store.labels(task.name)
    check_labels(rows, {name: task})
    if not per_step:
        return _by_prediction_time(store, task, rows, view, window)
    if not task.per_step:
        raise ValueError(f"task {name!r} has one label a stay, not one a step: use task.per_step=false")
    if view.bin_width is None:
        raise ValueError(
            f"task {name!r} has one label a time step: data.resolution={view.resolution} has no fixed steps. "
            "Give a bin width in hours, e.g. data.resolution=1.0"
        )
    return _by_step(store, task, rows, view, window)


def _by_prediction_time(
    store: StayStore, task: TaskInfo, rows: pl.DataFrame, view: View, window: WindowConfig | None
) -> Samples:
    if task.per_step:
        rows = _within(rows, pl.col("prediction_time") <= view.horizon + EDGE, task, "after the horizon")
    stay, time = _positions(store, rows), rows["prediction_time"].to_numpy()
    order = np.lexsort((time, stay))
    first = np.ones(len(order), dtype=bool)
    first[1:] = (np.diff(stay[order]) != 0) | (np.diff(time[order]) != 0)
    sample = np.empty(len(order), dtype=np.int64)
    sample[order] = np.cumsum(first) - 1
    of_stay, until = stay[order][first], time[order][first]
    label, mask = _laid_out(task, rows, (len(of_stay),), (sample,))
    end = np.minimum(until, np.minimum(store.length_hours[of_stay], view.horizon))
    start = np.zeros_like(until) if window is None else last_hours(end, view, window)
    return Samples(of_stay, start, until, label, mask)


def last_hours(end: Array, view: View, window: WindowConfig) -> Array:
    """Where the last window before ``end`` begins: with a grid, on an edge of its bins."""
    start = np.maximum(end - window.length, 0)
    if view.bin_width is not None:
        start = np.ceil((start - EDGE) / view.bin_width) * view.bin_width
    return np.asarray(np.maximum(start, 0), dtype=np.float32)


def _by_step(
    store: StayStore, task: TaskInfo, rows: pl.DataFrame, view: View, window: WindowConfig | None
) -> Samples:
    assert view.bin_width is not None and view.n_steps is not None
    pieces = unlabelled(store, view, window)
    stay, time = _positions(store, rows), rows["prediction_time"].to_numpy()
    place = np.zeros(len(rows), dtype=np.int64)
    if window is not None:
        place = np.ceil(np.maximum(time - window.length - EDGE, 0) / window.step).astype(np.int64)
    piece = np.searchsorted(pieces.stay, stay) + place
    piece = np.minimum(piece, len(pieces.stay) - 1)
    there = pieces.stay[piece] == stay
    since = time - pieces.start[piece]
    step = np.rint(since / view.bin_width).astype(np.int64) - 1
    at_the_end = np.abs((step + 1) * view.bin_width - since) < EDGE
    last = np.minimum(np.maximum(store.length_hours[stay], EDGE), view.horizon)
    seen = time <= np.ceil((last - EDGE) / view.bin_width) * view.bin_width + EDGE
    keep = there & at_the_end & (step >= 0) & (step < view.n_steps) & seen
    what = "after the horizon or the stay, or not at the end of a bin,"
    kept = _within(rows, pl.Series(keep), task, what)
    shape = (len(pieces.stay), view.n_steps)
    label, mask = _laid_out(task, kept, shape, (piece[keep], step[keep]))
    samples = Samples(*pieces[:3], label, mask)
    return samples.take(np.flatnonzero(mask.reshape(len(mask), -1).any(axis=1)))


def _within(rows: pl.DataFrame, keep: pl.Expr | pl.Series, task: TaskInfo, what: str) -> pl.DataFrame:
    """The labels to be kept; how many are not is said."""
    kept = rows.filter(keep)
    if len(kept) < len(rows):
        log.info("task %s: %s labels %s are left out", task.name, f"{len(rows) - len(kept):,}", what)
    return kept


def _positions(store: StayStore, rows: pl.DataFrame) -> Index:
    order = np.argsort(store.stay_id)
    found = np.searchsorted(store.stay_id, rows["stay_id"].to_numpy(), sorter=order)
    return np.asarray(order[found], dtype=np.int64)


def _laid_out(
    task: TaskInfo, rows: pl.DataFrame, shape: tuple[int, ...], index: tuple[Index, ...]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Labels and their mask in an array of this shape, with an axis where a label has several numbers."""
    if task.task_type in ("multilabel", "survival"):
        shape, index = (*shape, task.width), (*index, rows["column"].to_numpy())
    dtype = np.int64 if task.task_type in ("binary", "multiclass") else np.float32
    label, mask = np.zeros(shape, dtype=dtype), np.zeros(shape, dtype=bool)
    label[index], mask[index] = rows["value"].to_numpy(), True
    return label, mask
