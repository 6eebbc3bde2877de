"""The numbers of each task."""

from __future__ import annotations

import numpy as np
import polars as pl

from slices.training.data.report.model import QUANTILE_NAMES, QUANTILES, LabelSummary, TaskReport
from slices.training.data.schema import TaskInfo
from slices.training.data.store import StayStore


def describe_tasks(store: StayStore) -> tuple[TaskReport, ...]:
    """Each task of the dataset, by the rows of its label table."""
    return tuple(_describe(store, task) for task in store.manifest.tasks.values())


def _describe(store: StayStore, task: TaskInfo) -> TaskReport:
    sets = store.stays.select("stay_id", pl.col("set").fill_null("none"))
    rows = store.labels(task.name).drop("task").join(sets, on="stay_id")
    return TaskReport(
        task=task,
        first_time=rows["prediction_time"].min(),  # type: ignore[arg-type]
        last_time=rows["prediction_time"].max(),  # type: ignore[arg-type]
        overall=_summary(rows, task),
        by_set={str(name): _summary(part, task) for (name,), part in _by_set(rows)},
        stays_with=_stays_with(rows, task),
    )


def _by_set(rows: pl.DataFrame) -> list[tuple[tuple[object, ...], pl.DataFrame]]:
    return sorted(rows.partition_by("set", as_dict=True).items(), key=lambda item: str(item[0]))


def _summary(rows: pl.DataFrame, task: TaskInfo) -> LabelSummary:
    return LabelSummary(stays=rows["stay_id"].n_unique(), labels=len(rows), numbers=_numbers(rows, task))


def _numbers(rows: pl.DataFrame, task: TaskInfo) -> dict[str, float]:
    if rows.is_empty():
        return {}
    value = rows["value"].to_numpy()
    if task.task_type == "regression":
        quantiles = np.quantile(value, QUANTILES).tolist()
        return {"mean": float(value.mean()), **dict(zip(QUANTILE_NAMES, quantiles, strict=True))}
    if task.task_type == "multilabel":
        column = rows["column"].to_numpy()
        given = np.bincount(column, minlength=task.width)
        shares = np.bincount(column, weights=value, minlength=task.width) / np.maximum(given, 1)
    else:
        shares = np.bincount(value.astype(np.int64), minlength=len(task.classes)) / len(value)
    return dict(zip(task.classes, shares.tolist(), strict=True))


def _stays_with(rows: pl.DataFrame, task: TaskInfo) -> dict[str, int]:
    """How many stays ever have each class, of several labels each that is positive."""
    if task.task_type == "regression":
        return {}
    of_class = "column" if task.task_type == "multilabel" else "value"
    positive = rows.filter(pl.col("value") > 0) if of_class == "column" else rows
    table = positive.group_by(pl.col(of_class).cast(pl.Int64)).agg(pl.col("stay_id").n_unique())
    counted = dict(table.iter_rows())
    return {name: counted.get(i, 0) for i, name in enumerate(task.classes)}
