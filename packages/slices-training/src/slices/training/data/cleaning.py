"""Which events every dataset leaves out, whatever its source, each by a rule that is counted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from slices.training.data.schema import Tally, Variable

FLOAT32_MAX = float(np.finfo(np.float32).max)
RULES = {
    "unknown_stay": "an event of a stay that the table of stays does not have",
    "not_finite": "a value that is missing, not a number or infinite",
    "bad_time": "a time that is missing, before admission or after the end of the stay",
    "out_of_range": "a value outside the plausible range of its variable",
}


def clean_events(
    events: pl.DataFrame, stays: pl.DataFrame, variables: Sequence[Variable], tally: Tally
) -> pl.DataFrame:
    """The events that can be used; the others are counted, each by the first rule that it breaks."""
    low = pl.Series([variable.low for variable in variables], dtype=pl.Float64)
    high = pl.Series([variable.high for variable in variables], dtype=pl.Float64)
    checked = events.join(stays.select("stay_id", "set", "length_hours"), on="stay_id", how="left")
    value, time = pl.col("value"), pl.col("time")
    in_range = value.is_between(low.gather(events["variable"]), high.gather(events["variable"]))
    broken = {
        "unknown_stay": pl.col("set").is_null(),
        "not_finite": ~(value.abs() <= FLOAT32_MAX).fill_null(False) | value.is_nan().fill_null(True),
        "bad_time": ~time.is_between(0, pl.col("length_hours")).fill_null(False)
        | time.is_nan().fill_null(True),
        "out_of_range": ~in_range,
    }
    rule = pl.coalesce([pl.when(bad).then(pl.lit(name)) for name, bad in broken.items()])
    checked = checked.with_columns(rule.alias("rule"))
    dropped = checked.filter(pl.col("rule").is_not_null()).group_by("rule", "set").len()
    for name, of_set, count in dropped.sort("rule", "set").iter_rows():
        tally.add(name, RULES[name], {of_set or "none": count})
    return checked.filter(pl.col("rule").is_null()).select(
        "stay_id", "time", "variable", value.cast(pl.Float32)
    )
