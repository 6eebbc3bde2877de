"""From the rows of a shard to the events of its stays, what is left out counted by rule."""

from __future__ import annotations

import polars as pl

from slices.training.data.cleaning import sift
from slices.training.data.schema import EVENT_SCHEMA, Tally

from .stays import HOUR, locate

KNOWN_BY = 1.0  # hours into a stay: what is known of a static variable by then is its value
YEAR = 24 * 365.25  # hours


def events_of(rows: pl.DataFrame, claims: pl.DataFrame, stays: pl.DataFrame, tally: Tally) -> pl.DataFrame:
    """The events of the stays, of ``EVENT_SCHEMA``.

    ``rows`` of some subjects have ``subject_id, set, time, code, numeric_value``; ``claims`` are the codes'
    (``CodeMap.table``). In whatever order the rows come, the events are the same.
    """
    first = pl.struct("subject_id", "time", "code", "numeric_value").is_first_distinct()
    repeated = {"duplicate_row": ("a row that repeats another one exactly", ~first)}
    claimed = sift(rows, repeated, tally).join(claims, on="code")
    measured = claimed.sort("subject_id", "time", "code", "numeric_value").with_columns(
        value=pl.coalesce("constant", pl.col("numeric_value") * pl.col("factor") + pl.col("offset"))
    )
    value = pl.col("value")
    rules = {
        "no_value": ("a row without a numeric value", (value.is_null() | value.is_nan()) & ~pl.col("is_age")),
        "no_time": (
            "a row without a time, of a variable that is not static or an age",
            pl.col("time").is_null() & (~pl.col("static") | pl.col("is_age")),
        ),
    }
    usable = sift(measured, rules, tally)
    timed = locate(usable.filter(~pl.col("static")), stays, "time")
    outside = {"outside_stays": ("a measurement outside every stay", pl.col("stay_id").is_null())}
    inside = add_up(sift(timed, outside, tally), tally)
    statics = known_statics(usable.filter("static"), stays, tally)
    return pl.concat(table.select(EVENT_SCHEMA.keys()).cast(EVENT_SCHEMA) for table in (inside, statics))


def add_up(rows: pl.DataFrame, tally: Tally) -> pl.DataFrame:
    """The rows, those of sums replaced by one a moment at which every term was measured."""
    moment = ["stay_id", "set", "hours", "variable", "terms"]
    terms = rows.filter(pl.col("terms") > 1)
    means = terms.group_by(*moment, "term", maintain_order=True).agg(pl.col("value").mean())
    sums = means.group_by(moment, maintain_order=True).agg(pl.col("value").sum(), n=pl.len())
    rule = {
        "incomplete_sum": (
            "a moment at which only some of the terms of a sum were measured",
            pl.col("n") < pl.col("terms"),
        )
    }
    complete = sift(sums, rule, tally)
    single = rows.filter(pl.col("terms") == 1)
    return pl.concat(
        table.select("stay_id", "variable", "value", time="hours") for table in (single, complete)
    )


def known_statics(rows: pl.DataFrame, stays: pl.DataFrame, tally: Tally) -> pl.DataFrame:
    """``stay_id, variable, value, time``: of each static variable the last value known soon, at time 0.

    Soon is ``KNOWN_BY`` hours into a stay; a row without a time is known from its start. Of several rows of
    one time the entry that the mapping names first counts. Rows that no stay takes are counted.
    """
    rows = rows.with_row_index("row")
    pairs = rows.join(stays.select("subject_id", "stay_id", "start"), on="subject_id")
    since = ((pl.col("time") - pl.col("start")).dt.total_microseconds() / HOUR).fill_null(0.0)
    known = pairs.with_columns(since=since).filter(pl.col("since") <= KNOWN_BY)
    taken = (
        known.sort("stay_id", "variable", pl.col("since") * -1, "claim", "row")
        .unique(["stay_id", "variable"], keep="first", maintain_order=True)
        .with_columns(value=pl.when("is_age").then(pl.col("since") / -YEAR).otherwise("value"))
    )
    unused = ~pl.col("row").is_in(taken["row"].unique().to_list())
    what = f"a value of a static variable that no stay takes: later than {KNOWN_BY:g} h, or not the last"
    sift(rows, {"unused_static": (what, unused)}, tally)
    return taken.select("stay_id", "variable", "value", time=pl.lit(0.0))
