"""The labels of a bucket, from the labels file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from slices.training.data.cleaning import row_of, sift
from slices.training.data.schema import LABEL_SCHEMA, Tally, TaskInfo
from slices.training.data.sources.reading import number, refuse, require, schema_of, text, whole

from .clock import clock
from .config import TableColumns
from .files import Bucket, read_bucket
from .stays import by_set, since_admission

REMEDY = (
    "A labels file has the columns task, that of the stay, prediction_time and value (of survival, event too)"
)
EDGE = 1e-3  # hours: how far after its end, since lengths are rounded
TRUTH = {"true": 1.0, "false": 0.0}


def read_labels(
    path: Path,
    bucket: Bucket,
    columns: TableColumns,
    tasks: Mapping[str, TaskInfo],
    stays: pl.DataFrame,
    tally: Tally,
) -> pl.DataFrame:
    """The labels of stays that there are, up to the end of those whose length is known.

    A file without the column task is of the only task there is. In survival ``value`` is the hours to what
    the column ``event`` says, 0 where the stay was watched no longer.

    Raises ``ValueError`` naming the row of an unknown task and of a value or a column that cannot be one.
    """
    table = read_bucket(path, bucket, columns.stay, _wanted(path, columns, tasks))
    for column, good, what in (
        ("task", pl.col("task").is_in(list(tasks)), f"is none of data.source.tasks: {', '.join(tasks)}"),
        ("value", pl.col("value").is_not_null(), "is no number, true or false"),
        ("column", pl.col("column").is_not_null(), "is no whole number"),
        ("event", pl.col("event").is_not_null(), "is no number"),
    ):
        rows = table.with_columns(given=pl.col(f"given {column}"))
        given = pl.lit(True) if column == "task" else pl.col("given").is_not_null()
        refuse(rows, given & ~good.fill_null(False), path, column, what)
    table = since_admission(table, stays, [path], "prediction_time")
    row = table.select(row_of(stays)).to_series()
    of_stay, length = stays["set"].gather(row), stays["length_hours"].gather(row)
    time, value = pl.col("time"), pl.col("value")
    key = pl.struct("task", "stay_id", "time", "column", "value", "event")
    rules = {
        "label_without_stay": ("a label of a stay that there is not", pl.col("set").is_null()),
        "no_label": ("a label that is missing", value.is_null() | value.is_nan()),
        "label_without_admission": (
            "a label with a timestamp, of a stay whose admission is not known",
            pl.col("stamp").is_not_null() & time.is_null(),
        ),
        "label_without_time": (
            "a label whose prediction time is missing or unreadable",
            ~time.is_finite().fill_null(False),
        ),
        "label_before_stay": ("a label whose prediction time is before its stay", time < 0),
        "label_after_stay": (
            "a label whose prediction time is after its stay",
            time > length + EDGE,
        ),
        "repeated_label": ("a label given again, with the same value", ~key.is_first_distinct()),
    }
    labels = sift(table.with_columns(of_stay.alias("set")), rules, tally)
    without = stays.filter(~pl.col("stay_id").is_in(labels["stay_id"].unique().to_list()))
    tally.add("no_outcome", "a stay without a label", by_set(without))
    happened = labels.filter(pl.col("event").is_not_null())
    events = happened.with_columns(pl.col("event").alias("value"), pl.lit(1, pl.Int64).alias("column"))
    both = pl.concat([labels, events]).rename({"time": "prediction_time"})
    return both.select(LABEL_SCHEMA.keys()).cast(LABEL_SCHEMA)


def _wanted(path: Path, columns: TableColumns, tasks: Mapping[str, TaskInfo]) -> list[pl.Expr]:
    schema = schema_of(path)
    optional = () if len(tasks) == 1 else ("task",)
    require(path, schema, (columns.stay, *optional, "prediction_time", "value"), REMEDY)
    task = text("task") if "task" in schema else pl.lit(next(iter(tasks)))
    truth = text("value").str.to_lowercase().replace_strict(TRUTH, default=None, return_dtype=pl.Float64)
    has_column, has_event = "column" in schema, "event" in schema
    position = whole(path, schema, "column") if has_column else pl.lit(0, pl.Int64)
    given_column = text("column") if has_column else pl.lit("0")
    return [
        task.alias("task"),
        task.alias("given task"),
        pl.coalesce(number(path, schema, "value"), truth).alias("value"),
        text("value").alias("given value"),
        pl.when(given_column.is_null()).then(0).otherwise(position).alias("column"),
        given_column.alias("given column"),
        (number(path, schema, "event") if has_event else pl.lit(None, pl.Float64)).alias("event"),
        (text("event") if has_event else pl.lit(None, pl.String)).alias("given event"),
        *clock(path, schema, "prediction_time", columns.time_unit),
        pl.lit(0).alias("file"),
    ]
