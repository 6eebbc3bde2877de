"""The rows of a long table as events, each that cannot be one by a rule that is counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import polars as pl

from slices.training.data.cleaning import row_of, sift
from slices.training.data.schema import EVENT_SCHEMA, Tally
from slices.training.data.sources.reading import number, schema_of, text

from .clock import clock, no_time
from .config import TableColumns
from .files import Bucket, read_bucket


def read_rows(files: Sequence[Path], bucket: Bucket, columns: TableColumns) -> pl.DataFrame:
    """The rows of a bucket, in the order of the files: ``file`` (its position), ``row``, ``stay_id``,
    ``hours``, ``stamp`` and ``zoned`` of its time, ``variable``, ``value``, and whether that ``is_text`` and
    the time a text that ``is_no_time``."""
    tables = []
    for position, path in enumerate(files):
        schema = schema_of(path)
        value = number(path, schema, columns.value)
        wanted = (
            *clock(path, schema, columns.time, columns.time_unit),
            no_time(path, schema, columns.time).alias("is_no_time"),
            text(columns.variable).alias("variable"),
            value.alias("value"),
            (value.is_null() & text(columns.value).is_not_null()).alias("is_text"),
            pl.lit(position).alias("file"),
        )
        tables.append(read_bucket(path, bucket, columns.stay, wanted))
    return pl.concat(tables)


def events_of(
    rows: pl.DataFrame,
    stays: pl.DataFrame,
    position: Mapping[str, int],
    static: Iterable[int],
    sentinels: Sequence[float],
    tally: Tally,
) -> pl.DataFrame:
    """Events from rows with their ``time``. Of rows that are alike in all, and of values of a static
    variable, the first counts."""
    variable, value, time = pl.col("variable"), pl.col("value"), pl.col("time")
    known = rows.select(
        "stay_id",
        "time",
        "value",
        "is_text",
        "is_no_time",
        name="variable",
        variable=variable.replace_strict(position, default=None, return_dtype=pl.Int16),
        set=stays["set"].gather(rows.select(row_of(stays)).to_series()),
    )
    is_static = variable.is_in(list(static))
    key = pl.struct("stay_id", "time", "variable", "value")
    repeated = ~key.is_first_distinct() & time.is_not_null() & value.is_not_null()
    rules = {
        "no_stay": ("a row without a stay", pl.col("stay_id").is_null()),
        "blank_variable": ("a row without the name of a variable", pl.col("name").is_null()),
        "unknown_variable": ("a row of a variable that the vocabulary lacks", variable.is_null()),
        "unreadable_time": (
            "a time that is neither a number nor a timestamp as 2024-03-01 14:30 is",
            pl.col("is_no_time"),
        ),
        "not_a_number": ("a value that is text", pl.col("is_text")),
        "sentinel": ("a value that stands for unknown", value.is_in(list(sentinels))),
        "late_static": ("a value of a static variable that is not at time 0", is_static & (time != 0)),
        "repeated_row": ("a row given again, with the same value", repeated),
    }
    events = sift(known, rules, tally)
    usable = value.is_finite().fill_null(False) & time.is_not_null()
    further = is_static & usable & ~pl.struct("stay_id", "variable", usable).is_first_distinct()
    rule = {
        "repeated_static": ("a further value of a static variable of one stay; the first counts", further)
    }
    return sift(events, rule, tally).select(EVENT_SCHEMA.keys()).cast(EVENT_SCHEMA)
