"""What is known of the truth: the labels of a dataset beside predictions, where it has any."""

from __future__ import annotations

import numpy as np
import polars as pl

from slices.encoders.registry import unknown
from slices.training.data.schema import TaskInfo
from slices.training.data.store import StayStore
from slices.training.errors import UserError
from slices.training.intervals import struck_by
from slices.training.serving.model import TrainedModel

PER_HOUR = 1000  # times are compared to a thousandth of an hour
KEY = ("stay_id", "moment")
SURVIVAL = ("label_time", "label_event")  # columns 0 and 1 of survival labels


class Labels:
    """The labels of a model's task in a dataset, found batch by batch.

    Raises:
        UserError: the dataset has a task of that name, but of another type or with other classes.
    """

    def __init__(self, store: StayStore, model: TrainedModel) -> None:
        self.task = task_of(store, model)
        self.type = model.task.task_type
        if self.task is None:
            return
        moment = moment_of("prediction_time")
        table = store.labels(self.task.name).select(
            "stay_id", moment, pl.col("column").cast(pl.Int64), "value"
        )
        table = table.sort("stay_id")
        self.table, self.stay_id = table, table["stay_id"].to_numpy()

    def beside(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows (``stay_id, prediction_time, output``) with ``label``, null where there is none.

        Of classes it is 1 in the row of the true one and 0 in the others. In survival it is whether ``event``
        had come by ``until``; ``label_time`` and ``label_event`` are beside it.
        """
        nothing = [pl.lit(None, pl.Float64).alias(name) for name in SURVIVAL if self.type == "survival"]
        if self.task is None:
            return rows.with_columns(*nothing, label=pl.lit(None, pl.Float32))
        theirs = self._of(rows["stay_id"].unique().to_numpy())
        rows = rows.with_columns(moment_of("prediction_time"))
        if self.type == "survival":
            for column, name in enumerate(SURVIVAL):
                number = pl.col("value").cast(pl.Float32).cast(pl.Float64)  # as precise as in training
                of_column = theirs.filter(column=column).select(*KEY, number.alias(name))
                rows = rows.join(of_column, KEY, how="left", maintain_order="left")
            return rows.with_columns(struck_by()).drop("moment")
        one_a_row = self.type in ("multilabel", "regression")
        on = (*KEY, "output") if one_a_row else KEY
        theirs = theirs.rename({"column": "output"}) if one_a_row else theirs.drop("column")
        joined = rows.join(theirs, on, how="left", maintain_order="left")
        truth = pl.col("value") if one_a_row else pl.col("value") == pl.col("output")
        return joined.with_columns(label=truth.cast(pl.Float32)).drop("moment", "value")

    def _of(self, stays: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> pl.DataFrame:
        first = np.searchsorted(self.stay_id, stays, "left")
        last = np.searchsorted(self.stay_id, stays, "right")
        count = last - first
        place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        theirs: pl.DataFrame = self.table[np.repeat(first, count) + place]
        return theirs.unique((*KEY, "column"), keep="first")


def moment_of(column: str) -> pl.Expr:
    """A column of hours as whole numbers, which can be compared."""
    return (pl.col(column).cast(pl.Float64) * PER_HOUR).round().cast(pl.Int64).alias("moment")


def task_of(store: StayStore, model: TrainedModel) -> TaskInfo | None:
    """The model's task in the dataset; None where it has none of that name."""
    task = store.manifest.tasks.get(model.task.task_name)
    if task is None:
        return None
    kind = "multiclass" if model.task.task_type == "ordinal" else model.task.task_type
    if task.n_risks is not None and model.task.task_type == "survival" and task.n_risks != model.task.n_risks:
        raise UserError(
            f"task {task.name!r} has {task.n_risks} events in the data ({', '.join(task.classes)}), the "
            f"model's has {model.task.n_risks}: rename the data's"
        )
    if task.task_type != kind or task.n_classes not in (None, model.task.n_outputs):
        raise UserError(
            f"task {task.name!r} is {task.task_type} with {task.n_classes} classes in the data, the model's "
            f"is {model.task.task_type} with {model.task.n_outputs}: rename the data's"
        )
    return task


def labelled_task(store: StayStore, model: TrainedModel) -> TaskInfo:
    """The same. Raises ``UserError`` where there is none."""
    if (task := task_of(store, model)) is None:
        raise UserError(
            f"at=labels: {unknown('task', model.task.task_name, store.manifest.tasks)} (in the data)"
        )
    return task
