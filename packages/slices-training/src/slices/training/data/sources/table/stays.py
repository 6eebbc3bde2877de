"""The stays of a bucket: from the stays file, or those that have rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from slices.training.data.cleaning import LONGEST, row_of, sift
from slices.training.data.schema import Tally
from slices.training.data.sources.reading import number, refuse, require, schema_of, text, whole
from slices.training.data.sources.statics import Static, raw_statics

from .clock import IN_HOURS, MICROSECONDS, NO_TIME, clock
from .config import TableColumns
from .files import Bucket, read_bucket

SET = "table"  # of stays whose set is not said


def check_stays(path: Path, columns: TableColumns, statics: Sequence[str]) -> pl.Schema:
    """The columns of a stays file: that of the stay, all that are named otherwise than by default, statics.

    Raises ``ValueError`` for one that is missing or of the wrong type.
    """
    schema, default = schema_of(path), TableColumns()
    require(path, schema, [columns.stay], "Set data.source.columns.stay to its name")
    for key in ("patient", "set", "admission", "length"):
        if (name := getattr(columns, key)) != getattr(default, key):
            require(path, schema, [name], f"Set data.source.columns.{key} to its name")
    require(path, schema, statics, "Set data.source.statics to columns that there are")
    return schema


def read_stays(
    path: Path, bucket: Bucket, columns: TableColumns, statics: Sequence[Static], tally: Tally
) -> pl.DataFrame:
    """``stay_id``, ``patient_id``, ``set``, ``length_hours``, ``stamp`` and ``zoned`` of the admission, and
    the columns of the statics, one row a stay; a length or an admission that is missing is null.

    Raises ``ValueError`` naming the row of a patient, an admission time or a length that cannot be one, and a
    stay of two patients.
    """
    schema = check_stays(path, columns, [static.column for static in statics])
    patient, length, admission = columns.patient, columns.length, columns.admission
    none = pl.lit(None, pl.String)
    wanted = (
        (whole(path, schema, patient) if patient in schema else pl.lit(None, pl.Int64)).alias("patient_id"),
        _length(path, schema, columns).alias("length_hours"),
        *(clock(path, schema, admission) if admission in schema else NO_TIME),
        (text(columns.set) if columns.set in schema else none).alias("set"),
        *(
            (text(column).replace("NaN", None) if column in schema else none).alias(f"given {column}")
            for column in (patient, length, admission)
        ),
    )
    table = read_bucket(path, bucket, columns.stay, (*wanted, *raw_statics(statics)))
    in_range = pl.col("length_hours").is_finite() & (pl.col("length_hours") >= 0)
    for column, good, what in (
        (patient, pl.col("patient_id").is_not_null(), "is no whole number: number the patients"),
        (length, in_range, f"is no length in {columns.time_unit}"),
        (admission, pl.col("stamp").is_not_null(), "is no timestamp, as 2024-03-01 14:30 is"),
    ):
        given = pl.col(f"given {column}")
        rows = table.with_columns(given=given).filter(given.is_not_null())
        refuse(rows, ~good.fill_null(False), path, column, what)
    _refuse_two_patients(path, table)
    return _one_a_stay(table.with_columns(pl.col("length_hours").fill_nan(None)), schema, columns, tally)


def _length(path: Path, schema: pl.Schema, columns: TableColumns) -> pl.Expr:
    if columns.length not in schema:
        return pl.lit(None, pl.Float64)
    return number(path, schema, columns.length) * IN_HOURS[columns.time_unit]


def _refuse_two_patients(path: Path, stays: pl.DataFrame) -> None:
    patients = stays.select("stay_id", "patient_id").drop_nulls().unique(maintain_order=True)
    two = patients.filter(pl.col("stay_id").is_duplicated())
    if len(two):
        raise ValueError(f"{path}: stay {two['stay_id'][0]} is of several patients: leave all but one out")


def _one_a_stay(table: pl.DataFrame, schema: pl.Schema, columns: TableColumns, tally: Tally) -> pl.DataFrame:
    stay = pl.col("stay_id")
    rules = {
        "stay_without_id": ("a row of the stays file without a stay", stay.is_null()),
        "repeated_stay": ("a further row of the stays file for one stay; the first counts", _again(stay)),
    }
    stays = sift(table.with_columns(pl.col("set").fill_null(SET)), rules, tally).sort("stay_id")
    for key, column, what in (
        ("no_patient", columns.patient, "taken as that of a patient with the stay's number"),
        ("no_length", columns.length, "it ends with its last row or label"),
    ):
        if column in schema:
            missing = stays.filter(pl.col(f"given {column}").is_null())
            tally.add(key, f"a stay without {column}; {what}", by_set(missing))
    return stays.with_columns(pl.col("patient_id").fill_null(stay))


def _again(key: pl.Expr) -> pl.Expr:
    return ~key.is_first_distinct()


def by_set(stays: pl.DataFrame) -> dict[str, int]:
    """How many stays each set has."""
    return dict(stays.group_by("set").len().sort("set").iter_rows())


def stays_of(rows: pl.DataFrame) -> pl.DataFrame:
    """As ``read_stays``, where there is no stays file: every stay that has a row, of a patient of its own."""
    stay = rows.select(pl.col("stay_id").unique().drop_nulls().sort())
    return stay.with_columns(
        pl.col("stay_id").alias("patient_id"),
        pl.lit(SET).alias("set"),
        pl.lit(None, pl.Float64).alias("length_hours"),
        *NO_TIME,
    )


def with_admission(stays: pl.DataFrame, rows: pl.DataFrame, tally: Tally) -> pl.DataFrame:
    """The stays, admitted with their first row that has a timestamp where nothing else is known.

    Raises ``ValueError`` for such a stay that has rows with hours too: they count from an unknown moment.
    """
    stamped = rows.filter(pl.col("stamp").is_not_null() & pl.col("stay_id").is_not_null())
    first = stamped.group_by("stay_id").agg(pl.col("stamp").min(), pl.col("zoned").sort_by("stamp").first())
    at = stays.select(row_of(first)).to_series()
    stamp, zoned = first["stamp"].gather(at), first["zoned"].gather(at)
    assumed = stays["stamp"].is_null() & stamp.is_not_null()
    in_hours = rows.filter(pl.col("hours").is_not_null())["stay_id"].unique()
    both = stays.filter(assumed & stays["stay_id"].is_in(in_hours.to_list()))
    if len(both):
        raise ValueError(
            f"stay {both['stay_id'][0]} has rows with timestamps and rows with hours ({len(both)} such "
            "stays), and no time of admission from which both could count: give one kind, or the admission "
            "in the stays file"
        )
    what = "a stay without a time of admission; it begins with its first row"
    tally.add("no_admission", what, by_set(stays.filter(assumed)))
    zoned = stays["zoned"].zip_with(~assumed, zoned)
    return stays.with_columns(stays["stamp"].fill_null(stamp), zoned)


def with_length(stays: pl.DataFrame, rows: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """The stays, where no length is known ended with their last row, whatever it holds, or a later label;
    without any, at 0."""
    time = pl.col("time")
    asked = labels.select("stay_id", time=pl.col("prediction_time").cast(pl.Float64))
    seen = pl.concat([rows.select("stay_id", "time"), asked])
    # a time beyond a life is none: it is dropped as after the stay's end, and counted
    last = seen.filter(time.is_between(0, LONGEST) & pl.col("stay_id").is_not_null())
    last = last.group_by("stay_id").agg(time.max())
    length = last["time"].gather(stays.select(row_of(last)).to_series())
    return stays.with_columns(stays["length_hours"].fill_null(length).fill_null(0.0))


def since_admission(
    rows: pl.DataFrame, stays: pl.DataFrame, files: Sequence[Path], column: str
) -> pl.DataFrame:
    """The rows with ``time``: hours, or those from the admission to the timestamp.

    Raises ``ValueError`` naming file and row of a timestamp with a time zone where the admission has none,
    or the other way round.
    """
    at = rows.select(row_of(stays)).to_series()
    admission, zoned = stays["stamp"].gather(at), stays["zoned"].gather(at)
    mixed = rows.filter((rows["zoned"] != zoned).fill_null(False) & rows["stamp"].is_not_null())
    if len(mixed):
        which = "a time zone, the admission (or first row) of its stay has none"
        which = (
            which if mixed["zoned"][0] else "no time zone, the admission (or first row) of its stay has one"
        )
        given = mixed.with_columns(given=pl.from_epoch("stamp", "us").cast(pl.String))
        refuse(given, pl.lit(True), files[mixed["file"][0]], column, f"has {which}: give both or neither")
    since = (pl.col("stamp") - admission) / MICROSECONDS
    return rows.with_columns(time=pl.coalesce("hours", since))
