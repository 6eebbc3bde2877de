"""Which events every dataset leaves out, whatever its source, each by a rule that is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from slices.training.data.schema import Tally, Variable

LONGEST = 120 * 365.25 * 24  # hours: a life
FLOAT32_MAX = float(np.finfo(np.float32).max)


def sift(table: pl.DataFrame, rules: Mapping[str, tuple[str, pl.Expr]], tally: Tally) -> pl.DataFrame:
    """The rows that break no rule; the others are counted, each by the first rule that it breaks.

    ``rules``: name -> (what such a row is, where it is so). The table has a column ``set`` to count by.
    """
    broken = [
        pl.when(bad.fill_null(False)).then(pl.lit(i, pl.Int8)) for i, (_, bad) in enumerate(rules.values())
    ]
    rule = table.select("set", rule=pl.coalesce(broken))
    names = list(rules)
    for i, of_set, count in (
        rule.drop_nulls("rule").group_by("rule", "set").len().sort("rule", "set").iter_rows()
    ):
        tally.add(names[i], rules[names[i]][0], {of_set or "none": count})
    return table.filter(rule["rule"].is_null())


def row_of(stays: pl.DataFrame) -> pl.Expr:
    """The row of each ``stay_id`` in the table of stays, or null; unlike a join it keeps the order."""
    rows = pl.int_range(len(stays), eager=True)
    return pl.col("stay_id").replace_strict(stays["stay_id"], rows, default=None, return_dtype=pl.Int64)


def repair_values(events: pl.DataFrame, variables: Sequence[Variable], tally: Tally) -> pl.DataFrame:
    """Values in a unit that can be told, in the right one. The events have a column ``set`` to count by."""
    value, variable = pl.col("value"), pl.col("variable")
    for position, of in enumerate(variables):
        for repair in of.repairs:
            applies = (variable == position) & value.is_between(repair.low, repair.high)
            per_set = events.filter(applies).group_by("set").len().sort("set")
            counts = {name or "none": count for name, count in per_set.iter_rows()}
            tally.add(repair.rule, f"{repair.description}; repaired", counts)
            if len(per_set):
                repaired = value * repair.factor + repair.offset
                events = events.with_columns(value=pl.when(applies).then(repaired).otherwise(value))
    return events


def clean_events(
    events: pl.DataFrame, stays: pl.DataFrame, variables: Sequence[Variable], tally: Tally
) -> pl.DataFrame:
    """The events that can be used: of a known stay, within it, finite and in the variable's range.

    Mix-ups of units are repaired first; see ``Variable`` for what becomes of values outside the range.
    """
    low, high = (pl.Series([getattr(v, end) for v in variables], dtype=pl.Float64) for end in ("low", "high"))
    value, time = pl.col("value"), pl.col("time")
    position = events["variable"]
    row = events.select(row_of(stays)).to_series()
    known = events.with_columns(stays["set"].gather(row), stays["length_hours"].gather(row))
    known = clip_values(repair_values(known, variables, tally), variables, tally)
    in_range = value.is_between(low.gather(position), high.gather(position))
    in_stay = time.is_between(0, pl.col("length_hours")) & time.is_not_nan()
    rules = {
        "unknown_stay": ("an event of a stay that the table of stays does not have", pl.col("set").is_null()),
        "not_finite": (
            "a value that is missing, not a number or infinite",
            value.is_null() | value.is_nan() | (value.abs() > FLOAT32_MAX),
        ),
        "bad_time": (
            "a time that is missing, before admission or after the end of the stay",
            ~in_stay.fill_null(False),
        ),
        "out_of_range": ("a value outside the plausible range of its variable", ~in_range),
    }
    return sift(known, rules, tally).select(events.columns)


def clip_values(events: pl.DataFrame, variables: Sequence[Variable], tally: Tally) -> pl.DataFrame:
    """Values outside their range at its nearest end, for variables declared so. The events have a ``set``."""
    value = pl.col("value")
    for position, of in enumerate(variables):
        if of.outside == "clip":
            strays = (pl.col("variable") == position) & value.is_finite() & ~value.is_between(of.low, of.high)
            per_set = events.filter(strays).group_by("set").len().sort("set")
            tally.add(
                f"clipped_{of.name}",
                f"{of.name} outside {of.low:g} to {of.high:g}; moved to its nearest end",
                {name or "none": count for name, count in per_set.iter_rows()},
            )
            clipped = pl.when(strays).then(value.clip(of.low, of.high)).otherwise(value)
            events = events.with_columns(value=clipped)
    return events
