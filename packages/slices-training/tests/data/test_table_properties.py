"""From raw rows to batches, against a slow and obvious reading of the same rows."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stored
from reference import assert_cut, number
from slices.training.data import StayStore, build_source, prepare_dataset
from slices.training.data.sources.table import files as table_files

Row = tuple[str | None, str | None, str | None, str | None]
VOCABULARY = "hr: {low: 0, high: 300}\nlact:\nage: {static: true}\n"
COLUMNS = ("stay_id", "time", "variable", "value")
ROW_RULES = {
    *("no_stay", "blank_variable", "unknown_variable", "unreadable_time", "not_a_number", "sentinel"),
    "late_static",
    *("repeated_row", "repeated_static", "unknown_stay", "not_finite", "bad_time", "out_of_range"),
}


class Raw(NamedTuple):
    rows: list[Row]
    stays: list[tuple[str | None, ...]] | None  # stay, patient, set, admission, length
    has_vocabulary: bool
    sentinels: list[float]
    pieces: int  # files the rows are in
    suffix: str
    bucket: int


stay = st.sampled_from(["1", "1", " 2", "3.0", "40", "-5", "", None])
hours = st.sampled_from(["0", "0", "1.5", " 2", "7", "-1", "-1", "nan", "inf", "soon", "", None])
stamps = st.sampled_from(
    ["2024-03-01 10:00", "2024-03-01T12:30:00.5", "2024-02-29 23:59:59", "2024-02-30 10:00"]
)
values = st.sampled_from(["1", "2.5", " 3", "-1", "999", "abc", "nan", "inf", "1e400", "", None])
names = st.sampled_from(["hr", "hr", "lact", " hr ", "age", "age", "other", " ", None])


@st.composite
def raws(draw: st.DrawFn) -> Raw:
    zone = draw(st.sampled_from([st.just(""), st.sampled_from(["Z", "+01:00", " -05:30"])]))
    zoned = st.tuples(stamps, zone).map("".join)
    times = draw(st.sampled_from([hours, zoned, st.one_of(hours, zoned)]))
    rows = draw(st.lists(st.tuples(stay, times, names, values), max_size=25))
    rows += draw(st.lists(st.sampled_from(rows), max_size=3)) if rows else []
    length = st.sampled_from(["0", "2", "48.5", "", None])
    patient, group = st.sampled_from(["7", "8", None]), st.sampled_from(["a", " b", "", None])
    admission = st.one_of(st.none(), zoned.filter(lambda stamp: "02-30" not in stamp))
    stays = st.lists(st.tuples(stay, patient, group, admission, length), max_size=6)
    return Raw(
        rows,
        draw(st.one_of(st.none(), stays)),
        draw(st.booleans()),
        draw(st.sampled_from([[], [-1.0], [-1.0, 999.0]])),
        draw(st.integers(1, 3)),
        draw(st.sampled_from([".csv", ".parquet"])),
        draw(st.sampled_from([1, 4, 100])),
    )


def prepared(raw: Raw, folder: Path) -> StayStore:
    """The dataset that the source makes of the raw rows."""
    (folder / "raw").mkdir()
    for i, rows in enumerate(pieces(raw)):
        write(rows, COLUMNS, folder / "raw" / f"{i}{raw.suffix}")
    options: dict[str, Any] = {"name": "table", "raw": str(folder / "raw"), "sentinels": raw.sentinels}
    if raw.stays is not None:
        columns = ("stay_id", "patient_id", "set", "admission_time", "length_hours")
        write(raw.stays, columns, folder / f"stays{raw.suffix}")
        options["stays"] = str(folder / f"stays{raw.suffix}")
    if raw.has_vocabulary:
        (folder / "vocabulary.yaml").write_text(VOCABULARY)
        options["vocabulary"] = str(folder / "vocabulary.yaml")
    with mock.patch.object(table_files, "ROWS", raw.bucket):
        return prepare_dataset(build_source(options), folder / "dataset")


def pieces(raw: Raw) -> list[list[Row]]:
    """The rows of each file."""
    size = -(-len(raw.rows) // raw.pieces) or 1
    return [raw.rows[i * size : (i + 1) * size] for i in range(raw.pieces)]


def unreadable(row: Row) -> bool:
    return bool(plain(row[1])) and number(row[1]) is None and microseconds(row[1]) is None


def write(rows: list[Any], columns: tuple[str, ...], path: Path) -> None:
    table = pl.DataFrame(rows, dict.fromkeys(columns, pl.String), orient="row")
    table.write_csv(path) if path.suffix == ".csv" else table.write_parquet(path)


def plain(text: str | None) -> str | None:
    return (text or "").strip() or None


def microseconds(text: str | None) -> int | None:
    try:
        moment = datetime.fromisoformat((text or "").replace(" -", "-").strip())
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1e6)


def whole(text: str | None) -> int | None:
    value = number(text)
    return None if value is None else int(value)


class Reference:
    """What should be kept of the rows, and what should be counted, one row after the other."""

    def __init__(self, raw: Raw) -> None:
        self.raw, self.counts, self.events = raw, Counter[str](), Counter[Any]()
        self.stays = self.known_stays()  # stay -> patient, set, admission, length
        for i, (patient, group, admission, length) in self.stays.items():
            own = [row for row in raw.rows if whole(row[0]) == i]
            first = min((m for row in own if (m := microseconds(row[1])) is not None), default=None)
            if admission is None and first is not None:
                admission = first
                self.counts["no_admission"] += 1
            times = [t for row in own if (t := self.time(row, admission)) is not None]
            last = max((t for t in times if math.isfinite(t) and t >= 0), default=0.0)
            self.stays[i] = (patient, group, admission, last if length is None else length)
        names = {name for row in raw.rows if (name := plain(row[2]))}
        self.known = {"hr", "lact", "age"} if raw.has_vocabulary else names
        self.seen: set[Any] = set()
        self.static_seen: set[Any] = set()
        for row in raw.rows:
            rule = self.add(row)
            if rule:
                self.counts[rule] += 1

    def known_stays(self) -> dict[int, Any]:
        if self.raw.stays is None:
            ids = {i for row in self.raw.rows if (i := whole(row[0])) is not None}
            return {i: (i, "table", None, None) for i in ids}
        stays: dict[int, Any] = {}
        for stay_id, patient, group, admission, length in self.raw.stays:
            i = whole(stay_id)
            if i is None:
                self.counts["stay_without_id"] += 1
            elif i in stays:
                self.counts["repeated_stay"] += 1
            else:
                self.counts["no_patient"] += patient is None
                self.counts["no_length"] += plain(length) is None
                patient_id = i if patient is None else int(patient)
                stays[i] = (patient_id, plain(group) or "table", microseconds(admission), number(length))
        return stays

    @staticmethod
    def time(row: Row, admission: int | None) -> float | None:
        if (in_hours := number(row[1])) is not None:
            return in_hours
        moment = microseconds(row[1])
        return None if moment is None or admission is None else (moment - admission) / 3.6e9

    def is_refused(self) -> bool:
        """A stay of two patients, with hours and timestamps from no common moment, or a file of no times."""
        by_stay: dict[int, set[str]] = {}
        for stay_id, patient, *_ in self.raw.stays or []:
            if patient is not None and (i := whole(stay_id)) is not None:
                by_stay.setdefault(i, set()).add(patient)
        admitted = {whole(row[0]) for row in self.first_stays() if row[3] is not None}
        in_hours, stamped = (
            {whole(row[0]) for row in self.raw.rows if read(row[1]) is not None}
            for read in (number, microseconds)
        )
        of_no_times = [
            piece
            for piece in pieces(self.raw)
            if any(plain(row[1]) for row in piece) and all(unreadable(row) for row in piece if plain(row[1]))
        ]
        mixed = (in_hours & stamped & set(self.stays)) - admitted
        return any(len(patients) > 1 for patients in by_stay.values()) or bool(mixed) or bool(of_no_times)

    def first_stays(self) -> list[tuple[str | None, ...]]:
        """The rows of the stays file that count."""
        rows: dict[int | None, tuple[str | None, ...]] = {}
        for row in self.raw.stays or []:
            rows.setdefault(whole(row[0]), row)
        return list(rows.values())

    def add(self, row: Row) -> str | None:
        """Keep a row as an event, or say by which rule it is left out."""
        stay, name, value = whole(row[0]), plain(row[2]), number(row[3])
        time = self.time(row, self.stays[stay][2] if stay in self.stays else None)
        is_static = self.raw.has_vocabulary and name == "age"
        if stay is None:
            return "no_stay"
        if name is None:
            return "blank_variable"
        if name not in self.known:
            return "unknown_variable"
        if unreadable(row):
            return "unreadable_time"
        if value is None and plain(row[3]):
            return "not_a_number"
        if value in self.raw.sentinels:
            return "sentinel"
        if is_static and time is not None and time != 0:
            return "late_static"
        key = (stay, str(time), name, str(value))
        if time is not None and value is not None:
            if key in self.seen:
                return "repeated_row"
            self.seen.add(key)
        if is_static and time is not None and value is not None and math.isfinite(value):
            if (stay, name) in self.static_seen:
                return "repeated_static"
            self.static_seen.add((stay, name))
        if stay not in self.stays:
            return "unknown_stay"
        if value is None or not math.isfinite(value):
            return "not_finite"
        if time is None or not 0 <= np.float32(time) <= np.float32(self.stays[stay][3]):
            return "bad_time"
        if self.raw.has_vocabulary and name == "hr" and not 0 <= value <= 300:
            return "out_of_range"
        self.events[(stay, float(np.float32(time)), name, float(np.float32(value)))] += 1
        return None


@settings(max_examples=10, deadline=None)
@given(raws())
def test_what_is_stored_and_cut_is_what_the_reference_keeps(raw: Raw) -> None:
    wanted = Reference(raw)
    names = {name for row in raw.rows if (name := plain(row[2]))}
    if not wanted.stays or (raw.has_vocabulary and names and not names & {"hr", "lact", "age"}):
        return  # refused: see test_table_refusals.py
    with tempfile.TemporaryDirectory() as folder:
        if wanted.is_refused():
            with pytest.raises(ValueError):
                prepared(raw, Path(folder))
            return
        store = prepared(raw, Path(folder))
        events = stored.events(store)
        assert Counter(events) == wanted.events
        assert all(a[0] != b[0] or a[1] <= b[1] for a, b in pairwise(events))
        counts = stored.counts(store)
        assert counts == {rule: n for rule, n in wanted.counts.items() if n}
        assert len(events) + sum(n for rule, n in counts.items() if rule in ROW_RULES) == len(raw.rows)
        stays = {i: (p, s, length) for i, p, s, length in store.stays.iter_rows()}
        assert stays == {i: (p, s, float(np.float32(n))) for i, (p, s, _, n) in wanted.stays.items()}
        assert_cut(store, wanted.events.elements(), last=False)
