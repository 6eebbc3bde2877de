"""The stays, events and labels of a range of stay ids."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from slices.training.data.cleaning import row_of, sift
from slices.training.data.schema import EVENT_SCHEMA, Tally
from slices.training.data.sources.reading import collect, hours, number, refuse, scan, text, whole
from slices.training.data.sources.statics import raw_statics

from .layout import Layout, Patients

ROWS = 500_000  # of dyn in one part, about, which bounds memory
SET = "ricu"
CELL = "cell "  # before the name of a column, so that it clashes with none of ours
NOBODY = pl.DataFrame(schema={"stay_id": pl.Int64, "patient_id": pl.Int64})
ROW = "row of the file"  # a name that no column has
EDGE = 1e-3  # hours: how far from a whole hour a time may lie


class StayRange(NamedTuple):
    """Stay ids above the one, up to the other; rows without an id belong to the last range."""

    above: int | None
    upto: int | None

    def holds(self) -> pl.Expr:
        """Whether a ``stay_id`` lies in it; NaN is above every number."""
        stay = pl.col("stay_id")
        is_above = pl.lit(True) if self.above is None else (stay > self.above).fill_null(True)
        return is_above if self.upto is None else is_above & (stay <= self.upto)


def stay_ranges(layout: Layout) -> list[StayRange]:
    """Ranges with equally many stays and about ``ROWS`` hours; every row of every table lies in one."""
    dyn, sta = layout.path("dyn"), layout.path("sta")
    n_rows = collect(dyn, scan(dyn).select(pl.len())).item()
    stay = whole(sta, layout.sta, "stay_id")
    ids = collect(sta, scan(sta).select(stay.unique())).to_series().drop_nulls().sort()
    size = max(1, math.ceil(len(ids) / max(1, math.ceil(n_rows / ROWS))))
    cuts = [int(ids[at - 1]) for at in range(size, len(ids), size)]
    return [StayRange(*ends) for ends in zip([None, *cuts], [*cuts, None], strict=True)]


def read_stays(layout: Layout, within: StayRange, tally: Tally) -> pl.DataFrame:
    """``stay_id``, ``patient_id``, ``set`` and the columns of the statics, one row a stay."""
    path, schema = layout.path("sta"), layout.sta
    lazy = scan(path).filter(within.holds())
    columns = (whole(path, schema, "stay_id"), pl.lit(SET).alias("set"))
    table = collect(path, lazy.select(*columns, *raw_statics(layout.statics)))
    stay = pl.col("stay_id")
    rules = {
        "stay_without_id": ("a row of sta without a whole number as stay_id", stay.is_null()),
        "repeated_stay": ("a further row of sta for one stay; the first counts", ~stay.is_first_distinct()),
    }
    stays = sift(table, rules, tally).sort("stay_id")
    patients = read_patients(layout.patients, within) if layout.patients else NOBODY
    patient = patients["patient_id"].gather(stays.select(row_of(patients)).to_series())
    tally.add(
        "no_patient",
        "a stay without a patient; taken as that of a patient with the stay's number: splits may part the "
        "stays of one patient",
        {SET: patient.null_count()},
    )
    return stays.with_columns(patient.fill_null(stays["stay_id"]))


def read_patients(of: Patients, within: StayRange) -> pl.DataFrame:
    """``stay_id`` and ``patient_id``, one row a stay.

    Raises ``ValueError`` for a patient that is no whole number, and for a stay of two patients.
    """
    path, schema, column = of
    given = text(column).replace("NaN", None).alias("given")
    keys = (whole(path, schema, "stay_id"), whole(path, schema, column).alias("patient_id"), given)
    lazy = scan(path).with_row_index(ROW).select(pl.col(ROW).alias("row"), *keys).filter(within.holds())
    rows = collect(path, lazy).drop_nulls(["stay_id", "given"])
    refuse(rows, pl.col("patient_id").is_null(), path, column, "is no whole number: number the patients")
    patients = rows.select("stay_id", "patient_id").unique(maintain_order=True)
    two = patients.filter(pl.col("stay_id").is_duplicated())
    if len(two):
        raise ValueError(f"{path}: stay {two['stay_id'][0]} is of several patients: leave all but one out")
    return patients


def read_events(
    layout: Layout, within: StayRange, position: Mapping[str, int], tally: Tally
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events at the start of their hour, and ``stay_id`` and ``hour`` of every row of dyn.

    A cell that is null or NaN holds no value.
    """
    path = layout.path("dyn")
    cells = [number(path, layout.dyn, name).fill_nan(None).alias(CELL + name) for name in layout.dynamic]
    again = ~pl.struct("stay_id", "hour").is_first_distinct() & pl.col("hour").is_not_null()
    rules = {
        "row_without_id": ("a row of dyn without a whole number as stay_id", pl.col("stay_id").is_null()),
        "repeated_hour": ("a further row of dyn for one stay and hour; the first counts", again),
    }
    rows = sift(_hourly(path, layout.dyn, within, cells), rules, tally)
    tables = [EVENT_SCHEMA.to_frame()]
    for name in layout.dynamic:
        observed = rows.select("stay_id", pl.col("hour").alias("time"), pl.col(CELL + name).alias("value"))
        observed = observed.drop_nulls("value").with_columns(pl.lit(position[name]).alias("variable"))
        tables.append(observed.select(EVENT_SCHEMA.keys()).cast(EVENT_SCHEMA))
    return pl.concat(tables), rows.select("stay_id", "hour")


def read_labels(layout: Layout, within: StayRange, stays: pl.DataFrame, tally: Tally) -> pl.DataFrame:
    """``stay_id``, ``hour`` (null where each stay has one label) and ``value``, one row a label."""
    path, schema = layout.path("outc"), layout.outc
    table = _hourly(path, schema, within, [number(path, schema, "label").fill_nan(None).alias("value")])
    missing = ~(pl.col("hour") >= 0).fill_null(False) if "time" in schema else pl.lit(False)
    rules = {
        "label_without_id": ("a label without a whole number as stay_id", pl.col("stay_id").is_null()),
        "label_without_stay": ("a label of a stay that sta does not have", row_of(stays).is_null()),
        "no_label": ("a label that is missing", pl.col("value").is_null()),
        "label_without_hour": ("a label whose time is missing or before admission", missing),
        "repeated_label": (
            "a label given again, with the same value",
            ~pl.struct("stay_id", "hour", "value").is_first_distinct(),
        ),
    }
    labels = sift(table, rules, tally)
    two = labels.filter(pl.struct("stay_id", "hour").is_duplicated())
    if len(two):
        stay, hour = two.row(0)[:2]
        at = "" if hour is None else f" at {hour:g} h"
        raise ValueError(f"{path}: stay {stay} has two different labels{at}: leave one of them out")
    has_label = pl.col("stay_id").is_in(labels["stay_id"].unique().to_list())
    tally.add("no_outcome", "a stay without a label", {SET: len(stays.filter(~has_label))})
    return labels.select("stay_id", "hour", "value")


def _hourly(path: Path, schema: pl.Schema, within: StayRange, columns: Sequence[pl.Expr]) -> pl.DataFrame:
    """``stay_id``, ``hour``, ``set`` and the columns. Raises ``ValueError`` for a time between two hours."""
    stay = whole(path, schema, "stay_id")
    time = hours(path, schema, "time") if "time" in schema else pl.lit(None, pl.Float64)
    lazy = (
        scan(path).filter(within.holds()).select(stay, time.alias("hour"), pl.lit(SET).alias("set"), *columns)
    )
    table = collect(path, lazy)
    hour = pl.col("hour")
    between = table.filter(((hour - hour.round()).abs() < EDGE).not_())
    if len(between):
        raise ValueError(
            f"{path}: stay {between['stay_id'][0]} has a row between two hours: the tables must be "
            "hourly, with whole hours as time (in ricu: interval = hours(1))"
        )
    return table.with_columns(hour.round())


def with_lengths(stays: pl.DataFrame, hours_seen: pl.DataFrame, tally: Tally) -> pl.DataFrame:
    """The stays with ``length_hours``: the end of the last hour that has a row; without any, 0."""
    last = hours_seen.filter(pl.col("hour") >= 0).group_by("stay_id").agg(pl.col("hour").max())
    hour = stays.select(row_of(last)).to_series()
    stays = stays.with_columns(length_hours=last["hour"].gather(hour) + 1)
    without = stays["length_hours"].null_count()
    tally.add("no_hours", "a stay without any hour; kept, with length 0", {SET: without})
    return stays.with_columns(pl.col("length_hours").fill_null(0.0))
