"""What is known of stays besides what was measured over time: labels of the dataset's tasks, and statics."""

from __future__ import annotations

import polars as pl

from slices.training.data.labels import check_labels
from slices.training.data.schema import TaskInfo
from slices.training.data.store import StayStore
from slices.training.evaluation.report.statics import static_table
from slices.training.report.style import named


def known_of_stays(store: StayStore) -> dict[str, pl.Series]:
    """By name, a value a stay of the store: text for classes, else numbers; null where it is not known.

    Of labels at several times the last; of a multilabel task how many are known to be positive; of survival
    the event. The series are named as a reader should see them, with their units.
    """
    ids = store.stays.select("stay_id")
    labels = {task.name: _labels(ids, store, task) for task in store.manifest.tasks.values()}
    units = {variable.name: variable.unit for variable in store.variables}
    statics = {}
    for values in static_table(store).drop("stay_id"):
        unit = units.get(values.name) if values.dtype.is_numeric() else None
        statics[values.name] = values.alias(f"{values.name} ({unit})") if unit else values
    return labels | statics


def _labels(ids: pl.DataFrame, store: StayStore, task: TaskInfo) -> pl.Series:
    rows, time = store.labels(task.name), pl.col("prediction_time")
    check_labels(rows, {task.name: task})
    last = rows.filter(time == time.max().over("stay_id"))
    if task.task_type == "survival":
        last = last.filter(pl.col("column") == 1)
    summed = last.group_by("stay_id").agg(pl.col("value").sum())
    said = named(task.name) + (f" (of {task.width})" if task.task_type == "multilabel" else "")
    value = ids.join(summed, on="stay_id", how="left", maintain_order="left")["value"].alias(said)
    names = {"survival": ("none", *task.classes), "multilabel": ()}.get(task.task_type, task.classes)
    return value.replace_strict(dict(enumerate(names)), default=None) if names else value
