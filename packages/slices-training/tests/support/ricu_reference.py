"""Hourly tables drawn with every fault they can have, and a slow and obvious reading of them."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from hypothesis import strategies as st

from reference import Reference, number
from slices.training.data.vocabulary import read_vocabulary

DYNAMIC = {"hr": pl.Float64, "temp": pl.Float32, "urine": pl.Int64, "lact": pl.Float64, "ecmo": pl.Float64}
SEX = {"male": 1.0, "m": 1.0, "female": 0.0, "f": 0.0}
VARIABLES = read_vocabulary("icu")


class RawRicu(NamedTuple):
    dyn: list[tuple[Any, ...]]  # stay, hour, and a value of each variable
    sta: list[tuple[Any, ...]]  # stay, patient, age, sex
    outc: list[tuple[Any, ...]] | None  # stay, hour, label
    has_patients: bool
    in_hours: bool  # times are numbers, not durations
    rows_a_part: int


stay = st.sampled_from([2, 1, 1, 1, 2, 3, 9, -4, None])
hour = st.sampled_from([0, 1, 0, 2, 7, 30, -1, None])
hr = st.sampled_from([80.0, 95.5, 0.0, 999.0, -1.0, math.nan, math.inf, None])
temp = st.sampled_from([37.0, 98.6, -17.8, None, None])
urine = st.sampled_from([50, 60, 0, 4000, -1, 10**6, None])
lact = st.none()  # a column without any value
ecmo = st.sampled_from([1.0, None])  # a variable of their own
age = st.sampled_from([60.0, 61.0, -1.0, 540.0, math.nan, None])
sex = st.sampled_from(["Male", " f", "FEMALE", "1", "?", "", " ", None])


@st.composite
def raw_ricu(draw: st.DrawFn) -> RawRicu:
    described = st.tuples(stay, st.booleans(), age, sex).map(with_one_patient)
    row = st.tuples(stay, hour, hr, temp, urine, lact, ecmo)
    rows = draw(st.lists(row, min_size=draw(st.sampled_from([12, 0])), max_size=20))
    rows += draw(st.lists(st.sampled_from(rows), max_size=3)) if rows else []
    label = st.tuples(stay, hour, st.booleans()).map(with_one_label)
    return RawRicu(
        rows,
        draw(st.lists(described, min_size=draw(st.sampled_from([3, 0])), max_size=6)),
        draw(st.one_of(st.none(), st.lists(label, max_size=8))),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.sampled_from([1, 5, 1000])),
    )


def with_one_patient(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same patient for one stay, or none: two different ones are refused."""
    stay_id, is_known, *described = row
    return (stay_id, 7 + (stay_id or 0) % 2 if is_known else None, *described)


def with_one_label(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same label for one stay and hour, or none: two different ones are refused."""
    stay_id, time, is_known = row
    return (stay_id, time, bool(((stay_id or 0) + (time or 0)) % 2) if is_known else None)


def write_ricu(raw: RawRicu, folder: Path) -> dict[str, Any]:
    """The tables on disk, and the options of the source that reads them."""
    folder.mkdir()
    dyn = pl.DataFrame(raw.dyn, {"stay_id": pl.Int64, "time": pl.Int64} | DYNAMIC, orient="row")
    columns = {"stay_id": pl.Int64, "patient_id": pl.Int64, "age": pl.Float64, "sex": pl.String}
    sta = pl.DataFrame(raw.sta, columns, orient="row")
    tables = {"dyn": dyn, "sta": sta if raw.has_patients else sta.drop("patient_id")}
    if raw.outc is not None:
        columns = {"stay_id": pl.Int64, "time": pl.Int64, "label": pl.Boolean}
        tables["outc"] = pl.DataFrame(raw.outc, columns, orient="row")
    for name, table in tables.items():
        if "time" in table.columns and not raw.in_hours:
            table = table.with_columns(pl.col("time") * pl.lit(timedelta(hours=1)))
        table.write_parquet(folder / f"{name}.parquet")
    return {"name": "ricu", "raw": str(folder), "keep_unknown": True}


class RicuReference(Reference):
    """What should be kept of the tables, and what should be counted, one row after the other."""

    def __init__(self, raw: RawRicu, variables: Any) -> None:
        super().__init__()
        self.labels: dict[tuple[int, float], float] = {}
        self.last: dict[int | None, int] = {}
        patients = {row[0]: row[1] for row in raw.sta if row[1] is not None and raw.has_patients}
        for row in raw.sta:
            self.add_stay(row, patients)
        seen = set()
        for stay_id, time, *values in raw.dyn:
            if stay_id is None:
                self.counts["row_without_id"] += 1
                continue
            if time is not None and (stay_id, time) in seen:
                self.counts["repeated_hour"] += 1
                continue
            seen.add((stay_id, time))
            self.see(stay_id, time)
            for name, value in zip(DYNAMIC, values, strict=True):
                if value is not None and not math.isnan(value):
                    self.events.append((stay_id, time, name, value))
        for row in raw.outc or []:
            self.add_label(*row)
        labelled = {stay_id for stay_id, _ in self.labels}
        for stay_id, (patient, group, _) in self.stays.items():
            self.counts["no_outcome"] += raw.outc is not None and stay_id not in labelled
            self.counts["no_hours"] += stay_id not in self.last
            self.stays[stay_id] = (patient, group, float(self.last.get(stay_id, -1) + 1))
        self.clean(variables)

    def add_stay(self, row: tuple[Any, ...], patients: dict[int, int]) -> None:
        stay_id, _, years, gender = row
        if stay_id is None:
            self.counts["stay_without_id"] += 1
        elif stay_id in self.stays:
            self.counts["repeated_stay"] += 1
        else:
            self.counts["no_patient"] += stay_id not in patients
            self.stays[stay_id] = (patients.get(stay_id, stay_id), "ricu", 0.0)
            word = (gender or "").strip().lower()
            is_male = SEX.get(word, number(word))
            self.counts["unreadable_static"] += bool(word) and is_male is None
            for name, value in (("age", years), ("sex", is_male)):
                if value is not None and not math.isnan(value):
                    self.events.append((stay_id, 0.0, name, value))

    def see(self, stay_id: int | None, time: int | None) -> None:
        if time is not None and time >= 0:
            self.last[stay_id] = max(time, self.last.get(stay_id, 0))

    def add_label(self, stay_id: int | None, time: int | None, label: bool | None) -> None:
        if stay_id is None:
            self.counts["label_without_id"] += 1
        elif stay_id not in self.stays:
            self.counts["label_without_stay"] += 1
        elif label is None:
            self.counts["no_label"] += 1
        elif time is None or time < 0:
            self.counts["label_without_hour"] += 1
        elif (stay_id, time + 1.0) in self.labels:
            self.counts["repeated_label"] += 1
        else:
            self.labels[stay_id, time + 1.0] = float(label)
            self.see(stay_id, time)
