"""What is known of the truth: the labels of a dataset beside predictions, where it has any."""

from __future__ import annotations

import numpy as np
import polars as pl

from slices.encoders.registry import unknown
from slices.training.data.schema import TaskInfo
from slices.training.data.store import StayStore
from slices.training.errors import UserError
from slices.training.serving.model import TrainedModel

PER_HOUR = 1000  # times are compared to a thousandth of an hour
KEY = ("stay_id", "moment")


class Labels:
    """The labels of a model's task in a dataset, found batch by batch.

    Raises:
        UserError: the dataset has a task of that name, but of another type or with other classes.
    """

    def __init__(self, store: StayStore, model: TrainedModel) -> None:
        self.task = task_of(store, model)
        self.type, self.n_outputs = model.task.task_type, model.task.n_outputs
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

        Of classes it is 1 in the row of the true one and 0 in the others.
        """
        if self.task is None:
            return rows.with_columns(label=pl.lit(None, pl.Float32))
        theirs = self._of(rows["stay_id"].unique().to_numpy())
        rows = rows.with_columns(moment_of("prediction_time"))
        if self.type == "multilabel":
            theirs = theirs.rename({"column": "output"})
            joined = rows.join(theirs, on=(*KEY, "output"), how="left", maintain_order="left")
            truth = pl.col("value")
        else:
            joined = rows.join(theirs.drop("column"), KEY, how="left", maintain_order="left")
            is_it = pl.col("value") == pl.col("output")
            truth = pl.col("value") if self.type == "regression" else is_it.cast(pl.Float32)
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
