"""Rows of a table: files, names, times and statics."""

from __future__ import annotations

import pickle
from datetime import UTC
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from slices.training.data import Tally, build_source, prepare_dataset
from slices.training.data.sources.table import files as table_files
from slices.training.data.vocabulary import read_vocabulary
from stored import counts
from table_raw import ADMISSION, EVENTS, ROWS, Table, events, stamped


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv"])
def test_one_file_in_any_order(table: Table, name: str) -> None:
    table.rows(name=name)
    store = table.prepare(raw=str(table.raw / name))
    assert events(store) == EVENTS and counts(store) == {}
    assert [(v.name, v.static) for v in store.variables] == [("hr", False), ("lact", False)]
    assert dict(zip(store.stay_id.tolist(), store.length_hours.tolist(), strict=True)) == {1: 3.0, 2: 4.0}
    assert store.stays["set"].unique().to_list() == ["table"]


def test_many_files_and_buckets_are_one_table(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(5):
        table.rows(pl.DataFrame(ROWS)[i : i + 1], f"{i}.{'csv' if i % 2 else 'parquet'}")
    monkeypatch.setattr(table_files, "ROWS", 1)
    store = table.prepare()
    assert events(store) == EVENTS and store.manifest.counts["stays"] == 2
    assert events(table.prepare(raw=f"{table.raw}/[0-3].*")) == EVENTS[:-1]


def test_columns_and_files_have_the_names_that_are_said(table: Table) -> None:
    names = {"stay_id": "icustay", "time": "t", "variable": "item", "value": "valuenum"}
    table.rows(pl.DataFrame(ROWS).rename(names))
    stays = {"icustay": [1, 2], "subject": [9, 9], "los": [24, 48], "unit": ["a", "b"]}
    columns = {"stay": "icustay", "time": "t", "variable": "item", "value": "valuenum"}
    columns |= {"patient": "subject", "length": "los", "set": "unit"}
    path = table.raw / "stays.csv"  # beside the rows, yet not one of them
    pl.DataFrame(stays).write_csv(path)
    store = table.prepare(columns=columns, stays=str(path))
    assert events(store) == EVENTS
    assert sorted(store.stays.rows()) == [(1, 9, "a", 24.0), (2, 9, "b", 48.0)]


BERLIN = [pl.col("time").dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Berlin")]


@pytest.mark.parametrize(
    ("times", "zoned"),
    [
        ([], False),
        ([pl.col("time").dt.cast_time_unit("ms")], False),
        ([pl.col("time").dt.strftime("%Y-%m-%d %H:%M:%S")], False),
        (BERLIN, True),
        ([BERLIN[0].dt.strftime("%Y-%m-%dT%H:%M:%S%:z")], True),
    ],
)
def test_timestamps_count_from_the_admission(table: Table, times: list[pl.Expr], zoned: bool) -> None:
    table.rows(stamped().with_columns(times))
    admissions = [moment.replace(tzinfo=UTC) if zoned else moment for moment in ADMISSION.values()]
    stays = table.file("stays.parquet", {"stay_id": [1, 2], "admission_time": admissions})
    assert events(table.prepare(stays=stays)) == EVENTS


def test_without_an_admission_a_stay_begins_with_its_first_row(table: Table) -> None:
    table.rows(stamped(), "rows.csv")
    store = table.prepare()
    assert events(store)[-2:] == [(2, 0.0, "hr", 70.0), (2, 3.5, "hr", 72.0)]
    assert counts(store) == {"no_admission": 2}


def test_durations_are_hours(table: Table) -> None:
    table.rows(pl.DataFrame(ROWS).with_columns(time=pl.duration(seconds=(pl.col("time") * 3600).cast(int))))
    assert events(table.prepare()) == EVENTS


def test_a_stay_with_nothing_of_use_remains_and_is_empty(table: Table) -> None:
    table.rows(pl.DataFrame({"stay_id": [1], "time": [-4.0], "variable": ["hr"], "value": [1.0]}))
    store = table.prepare()
    assert store.stays.rows() == [(1, 1, "table", 0.0)]
    assert counts(store) == {"bad_time": 1} and len(store.time) == 0


def test_statics_of_the_stays_file(table: Table) -> None:
    table.rows()
    content = {
        "stay_id": [1, 2, 3],
        "age": ["60.5", "?", "-1"],
        "sex": ["F", "male", None],
        "unit": [" medical", "surgical", ""],
        "row": [1, 2, -1],
    }
    for name in ("stays.csv", "stays.parquet"):
        options: dict[str, Any] = {"statics": ["age", "sex", "unit", "row"], "sentinels": [-1]}
        store = table.prepare(stays=table.file(name, content), vocabulary="icu", **options)
        static = [event for event in events(store) if event[2] not in ("hr", "lact")]
        assert static == [
            (1, 0.0, "age", 60.5),
            (1, 0.0, "row", 1.0),
            (1, 0.0, "sex", 0.0),
            (1, 0.0, "unit_medical", 1.0),
            (1, 0.0, "unit_surgical", 0.0),
            (2, 0.0, "row", 2.0),
            (2, 0.0, "sex", 1.0),
            (2, 0.0, "unit_medical", 0.0),
            (2, 0.0, "unit_surgical", 1.0),
        ]
        assert counts(store) == {"unreadable_static": 1, "static_sentinel": 2}
        known = len(read_vocabulary("icu"))
        assert [v.name for v in store.variables[known:]] == ["unit_medical", "unit_surgical", "row"]
        assert all(v.static for v in store.variables[known:])


def test_statics_in_the_long_table(table: Table) -> None:
    given = [(1, 0.0, None), (1, 0.0, 60.0), (1, 0.0, 61.0), (1, 5.0, 62.0), (1, -1.0, 63.0), (2, 0.0, 50.0)]
    rows = pl.DataFrame(given, ["stay_id", "time", "value"], orient="row").with_columns(
        variable=pl.lit("age")
    )
    table.rows(rows)
    store = table.prepare(vocabulary="icu")
    assert events(store) == [(1, 0.0, "age", 60.0), (2, 0.0, "age", 50.0)]
    assert counts(store) == {"not_finite": 1, "repeated_static": 1, "late_static": 2}


def test_a_csv_is_parsed_once_for_all_buckets(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "ROWS", 1)
    table.rows(name="rows.csv")
    stays = table.file("stays.csv", {"stay_id": [1, 2, 5], "patient_id": [4, 4, 5]})
    source = build_source({"name": "table", "raw": str(table.raw), "stays": stays})
    parts = source.parts()
    assert len(parts) == len(ROWS["value"])
    (table.folder / "shared").mkdir()
    source.stage(table.folder / "shared")
    source = pickle.loads(pickle.dumps(source))  # as it travels to other processes
    for path in (table.raw / "rows.csv", Path(stays)):
        path.write_text(path.read_text().splitlines()[0])
    chunks = [chunk for part in parts for chunk in source.read(part, Tally())]
    assert sum(len(chunk.events) for chunk in chunks) == len(EVENTS)
    assert sum(len(chunk.stays) for chunk in chunks) == 3


def test_copies_of_csv_files_are_gone_in_the_end(
    table: Table, monkeypatch: pytest.MonkeyPatch, left_behind: Any
) -> None:
    monkeypatch.setattr(table_files, "ROWS", 1)
    table.rows(name="rows.csv")
    assert events(table.prepare()) == EVENTS
    assert sorted(left_behind(table.folder)) == ["dataset", "raw"]


def test_a_pattern_at_another_place_is_another_dataset(table: Table) -> None:
    table.rows()
    options = {"name": "table", "raw": f"{table.raw}/*.parquet"}
    prepare_dataset(build_source(options), table.folder / "d")
    elsewhere = table.folder / "elsewhere"
    elsewhere.mkdir()
    other = build_source(options | {"raw": f"{elsewhere}/*.parquet"})
    assert len(prepare_dataset(other, table.folder / "d")) == 2  # nothing lies there: it was moved
    table.write(elsewhere / "rows.parquet", pl.DataFrame(ROWS))
    with pytest.raises(ValueError, match=r"was prepared from .*raw/\*\.parquet, asked for is raw=.*else"):
        prepare_dataset(other, table.folder / "d")


def test_files_that_come_or_change_later_make_another_dataset(table: Table) -> None:
    table.rows()
    stays = table.file("stays.csv", {"stay_id": [1, 2]})
    source = {"name": "table", "raw": str(table.raw)}
    prepare_dataset(build_source(source), table.folder / "dataset")
    with pytest.raises(
        ValueError, match=r"prepared with stays=none, asked for is .*stays\.csv.*overwrite=true"
    ):
        prepare_dataset(build_source(source | {"stays": stays}), table.folder / "dataset")
    table.rows(name="more.parquet")
    with pytest.raises(ValueError, match=r"data\.source\.raw was 1 file .* is 2 files .*overwrite=true"):
        prepare_dataset(build_source(source), table.folder / "dataset")


def test_a_text_static_has_the_categories_of_the_vocabulary(table: Table) -> None:
    """Those that a file lacks are 0 in it, not unobserved."""
    vocabulary = table.folder / "words.yaml"
    vocabulary.write_text("hr: {}\nlact: {}\nunit_icu: {static: true}\nunit_ward: {static: true}\n")
    table.rows()
    options: dict[str, Any] = {"statics": ["unit"], "vocabulary": str(vocabulary)}
    store = table.prepare(
        stays=table.file("stays.csv", {"stay_id": [1, 2], "unit": ["icu", None]}), **options
    )
    static = [event for event in events(store) if event[2].startswith("unit")]
    assert static == [(1, 0.0, "unit_icu", 1.0), (1, 0.0, "unit_ward", 0.0)]
