"""Stages of acute kidney injury by KDIGO (Kidney Int Suppl 2012; 2: 1-138), measurement by measurement.

A verdict is one row: the stay's ``row``, the ``minute`` at which it is reached, the ``stage`` (0 to 3) and
the highest stage it can tell, ``knows``.
"""

from __future__ import annotations

import polars as pl

HOUR = 60
DAYS_2, DAYS_7 = 48 * HOUR, 7 * 24 * HOUR
LONGEST_GAP = 6 * HOUR  # between two chartings of urine; beyond that what was made is not known
SLACK = 1e-5  # in binary, 1.2 - 0.9 falls short of 0.3

VALUE, MINUTE = pl.col("value"), pl.col("minute")


def creatinine_verdicts(creatinine: pl.DataFrame) -> pl.DataFrame:
    """A verdict at each creatinine (mg/dL) that has another in the 7 days before it, by the lowest of these.

    - stage 1: 0.3 mg/dL or more above the lowest of the last 48 hours, or 1.5 times that of the last 7 days;
    - stage 2: 2 times that of the last 7 days;
    - stage 3: 3 times, or 4.0 mg/dL where it is at least stage 1 already.
    """
    low_2, low_7 = (
        VALUE.rolling_min_by("minute", f"{window}i", closed="both").over("row") for window in (DAYS_2, DAYS_7)
    )
    since_last = MINUTE - MINUTE.shift(1).over("row")
    table = creatinine.with_columns(low_2=low_2, low_7=low_7, since_last=since_last)
    low, raised = pl.col("low_7"), VALUE + SLACK
    injured = (raised >= pl.col("low_2") + 0.3) | (raised >= low * 1.5)
    stage = _highest(injured, raised >= low * 2, (raised >= low * 3) | (injured & (raised >= 4.0)))
    verdicts = table.filter(pl.col("since_last") <= DAYS_7)
    return verdicts.select("row", "minute", stage=stage, knows=pl.lit(3))


def urine_verdicts(urine: pl.DataFrame, weight: pl.DataFrame) -> pl.DataFrame:
    """A verdict at each charting of urine (mL since the one before), once the weight (kg) is known.

    Output over a window is the sum of what is charted after its beginning, up to its end. It is known where
    urine was charted at or before its beginning, and from there on never more than 6 hours apart: otherwise
    a pause in charting would pass for anuria.

    - stage 1: below 0.5 mL/kg/h over 6 hours;
    - stage 2: below 0.5 mL/kg/h over 12 hours;
    - stage 3: below 0.3 mL/kg/h over 24 hours, or none over 12 hours.
    """
    table = urine.join(weight.rename({"value": "weight", "minute": "weighed"}), on="row", how="inner")
    table = table.sort("row", "minute")
    paused = (MINUTE - MINUTE.shift(1)).over("row") > LONGEST_GAP
    table = table.with_columns(run=paused.fill_null(False).cum_sum().over("row"))
    windows = {
        f"output_{hours}": VALUE.rolling_sum_by("minute", f"{hours * HOUR}i", closed="right").over("row")
        for hours in (6, 12, 24)
    }
    table = table.with_columns(covered=MINUTE - MINUTE.first().over("row", "run"), **windows)
    low_6, low_12, low_24 = _below(0.5, 6), _below(0.5, 12), _below(0.3, 24)
    none_12 = _covers(12) & (pl.col("output_12") <= SLACK)
    stage = _highest(low_6, low_12, low_24 | none_12)
    knows = pl.sum_horizontal(_covers(hours).cast(pl.Int32) for hours in (6, 12, 24))
    verdicts = table.filter(_covers(6) & (pl.col("weighed") <= MINUTE))
    return verdicts.select("row", "minute", stage=stage, knows=knows)


def _covers(hours: int) -> pl.Expr:
    return pl.col("covered") >= hours * HOUR


def _below(rate: float, hours: int) -> pl.Expr:
    limit = rate * hours * pl.col("weight")
    return _covers(hours) & (pl.col(f"output_{hours}") < limit - SLACK)


def _highest(one: pl.Expr, two: pl.Expr, three: pl.Expr) -> pl.Expr:
    return pl.when(three).then(3).when(two).then(2).when(one).then(1).otherwise(0)
