"""Times as people write them: hours, durations, and timestamps with or without a time zone."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from slices.training.data.sources.reading import hours, is_text, text

MICROSECONDS = 3.6e9  # in an hour
STAMP = (
    r"^(?P<day>\d{4}-\d\d-\d\d)[ T](?P<hour>[01]\d|2[0-3]):(?P<minute>[0-5]\d)"
    r"(?::(?P<second>[0-5]\d(?:\.\d+)?))? ?(?P<zone>Z|[+-]\d\d:?[0-5]\d)?$"
)
NO_TIME = (
    pl.lit(None, pl.Float64).alias("hours"),
    pl.lit(None, pl.Int64).alias("stamp"),
    pl.lit(None, pl.Boolean).alias("zoned"),
)
WANTED = "hours as a number, a Duration, or a timestamp"


IN_HOURS = {"hours": 1.0, "minutes": 1 / 60, "seconds": 1 / 3600, "days": 24.0}


def clock(path: Path, schema: pl.Schema, column: str, unit: str = "hours") -> list[pl.Expr]:
    """``hours`` or else ``stamp`` (microseconds since 1970, in UTC where ``zoned``), null where unreadable.

    A number counts ``unit``. A text is read row by row: a number, or ``2024-03-01 14:30[:15[.5]][Z|+01:00]``.
    Raises ``ValueError`` for a column of another type.
    """
    dtype = schema[column]
    in_hours, stamp, zoned = NO_TIME
    if isinstance(dtype, pl.Datetime):
        moment = pl.col(column)
        if dtype.time_zone:
            moment = moment.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        stamp, zoned = moment.dt.timestamp("us"), pl.lit(dtype.time_zone is not None)
    elif is_text(dtype):
        in_hours = text(column).cast(pl.Float64, strict=False) * IN_HOURS[unit]
        stamp, zoned = _stamp(text(column))
    else:
        in_hours = hours(path, schema, column, WANTED)
        in_hours = in_hours if isinstance(dtype, pl.Duration) else in_hours * IN_HOURS[unit]
    return [in_hours.alias("hours"), stamp.alias("stamp"), zoned.alias("zoned")]


def no_time(path: Path, schema: pl.Schema, column: str) -> pl.Expr:
    """Whether there is a text that ``clock`` cannot read."""
    if not is_text(schema[column]):
        return pl.lit(False)
    in_hours, stamp, _ = clock(path, schema, column)
    return text(column).is_not_null() & in_hours.is_null() & stamp.is_null()


def _stamp(words: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    part = words.str.extract_groups(STAMP).struct
    zone = part.field("zone")
    sign = pl.when(zone.str.starts_with("-")).then(-1).otherwise(1)
    ahead = sign * (_number(zone.str.slice(1, 2)) * 60 + _number(zone.str.slice(-2)))
    minutes = _number(part.field("hour")) * 60 + _number(part.field("minute")) - ahead.fill_null(0)
    seconds = minutes * 60 + _number(part.field("second")).fill_null(0)
    day = part.field("day").str.to_date("%Y-%m-%d", strict=False).cast(pl.Int64)
    stamp = day * 86_400_000_000 + (seconds * 1e6).round().cast(pl.Int64)
    return stamp, zone.is_not_null()


def _number(digits: pl.Expr) -> pl.Expr:
    return digits.cast(pl.Float64, strict=False)
