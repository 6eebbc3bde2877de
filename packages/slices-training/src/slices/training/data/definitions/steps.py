"""Prediction times, in whole minutes: what is exact there is not in binary fractions of an hour."""

from __future__ import annotations

import polars as pl

MINUTES = 60


def whole_minutes(hours: float, field: str) -> int:
    """Hours as minutes. Raises ``ValueError`` unless they are a positive number of whole minutes."""
    minutes = round(hours * MINUTES) if 0 < hours < 1e6 else 0
    if minutes < 1 or abs(minutes - hours * MINUTES) > 1e-6:
        raise ValueError(f"{field}={hours}: allowed is a positive number of hours, in whole minutes")
    return minutes


def minutes(hours: pl.Expr) -> pl.Expr:
    """Hours as minutes, to the hundredth: as far as 32 bits hold them."""
    return (hours.cast(pl.Float64) * MINUTES).round(2)


def one_step(stays: pl.DataFrame, at: float) -> pl.DataFrame:
    """Every stay, to be predicted for at ``at`` hours."""
    return stays.with_columns(prediction_time=pl.lit(at))


def every_step(stays: pl.DataFrame, every: int, steps: pl.Expr) -> pl.DataFrame:
    """Each stay as often as it has ``steps``, each with its ``minute``, a multiple of ``every``.

    A stay that has none is there once all the same, for a rule to count.
    """
    last = steps.cast(pl.Int64).fill_null(1).clip(1)
    table = stays.with_columns(minute=pl.int_ranges(1, last + 1)).explode("minute")
    minute = pl.col("minute") * every
    return table.with_columns(minute, prediction_time=minute / MINUTES)
