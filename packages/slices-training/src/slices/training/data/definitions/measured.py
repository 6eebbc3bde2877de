"""Measurements that labels are made of: values that a dataset would hold, at whole minutes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from slices.training.data.cleaning import clip_values, repair_values, row_of
from slices.training.data.definitions.base import Records
from slices.training.data.definitions.steps import minutes
from slices.training.data.schema import Tally

MAX_HOURS = 1e6
SPAN = 1 << 32  # minutes: more than any stay has, so that a row and a minute make one number


def measured(records: Records, name: str, several: pl.Expr) -> pl.DataFrame:
    """Measurements of a variable as ``row`` (of the stay), ``minute`` and ``value``, in their order.

    Values are repaired, clipped or left out as they are in the dataset, where that is counted. What there
    is of one stay in one minute becomes one by ``several``.
    """
    names = [variable.name for variable in records.variables]
    variable = records.variables[names.index(name)]
    of_variable = pl.col("variable") == names.index(name)
    events = records.events.filter(of_variable).with_columns(variable=pl.lit(0), set=pl.lit(""))
    events = clip_values(repair_values(events, [variable], Tally()), [variable], Tally())
    rows = events.filter(
        pl.col("value").is_finite() & pl.col("value").is_between(variable.low, variable.high),
        pl.col("time").is_between(-MAX_HOURS, MAX_HOURS),
    ).select(
        minutes(pl.col("time")).round().cast(pl.Int64).alias("minute"), "value", row=row_of(records.stays)
    )
    return rows.drop_nulls("row").group_by("row", "minute").agg(several.alias("value")).sort("row", "minute")


def count_between(
    table: pl.DataFrame,
    row: npt.NDArray[np.int64],
    after: npt.NDArray[np.int64],
    until: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """How many rows of ``table`` (``row``, ``minute``) each row has after one minute, up to another."""
    place = np.sort(table["row"].to_numpy() * SPAN + table["minute"].to_numpy())
    upper, lower = (np.searchsorted(place, row * SPAN + minute, side="right") for minute in (until, after))
    return np.asarray(upper - lower)


def first_of_each(table: pl.DataFrame, columns: Sequence[str] = ("minute", "value")) -> pl.DataFrame:
    """The first measurement of each row."""
    return table.group_by("row", maintain_order=True).agg(pl.col(columns).first())
