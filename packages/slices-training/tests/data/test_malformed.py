"""Raw data with faults that used to pass silently, or under a misleading name."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ricu_raw import Ricu
from slices.training.data import build_source, prepare_dataset
from slices.training.data.sources.table import files as table_files
from stored import counts
from table_raw import ADMISSION, ROWS, Table, events, labels

HEADER = "stay_id,time,variable,value\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER + "1,0,hr,80\n1,1,hr,80,9\n", r"line 3 has 5 fields, the header 4"),
        (HEADER + '1,0,"hr,80\n1,1,hr,80\n', r"line 3: .*Correct the quotes"),
        ((HEADER + "1,0,größe,80\n").encode("latin-1"), "its text is not UTF-8"),
        ((HEADER + "1,0,hr,80\n").encode("utf-16"), "its text is not UTF-8"),
        (HEADER.replace(",", ";") + "1;0;hr;80\n", "separated by semicolons.*with commas"),
        (HEADER.replace(",", "\t") + "1\t0\thr\t80\n", "separated by tabs.*with commas"),
        ("stay_id,time,variable,value,value\n1,0,hr,80,81\n", "names the column 'value' twice"),
        (HEADER + "1,00:30,hr,80\n", r"times in the column 'time' cannot be read, as '99:99'.*time_unit"),
        (HEADER + "1,01/02/2024,hr,80\n", r"cannot be read, as '99/99/9999'.*2024-03-01 14:30"),
        (HEADER + "1,0,hr,80\n1,2024-03-01 14:30,hr,80\n", "stay 1 has rows with timestamps and rows with"),
    ],
)
def test_a_csv_file_is_refused_with_its_fault(
    table: Table, content: str | bytes, message: str, left_behind: Any
) -> None:
    path = table.raw / "rows.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ValueError, match=message):
        table.prepare()
    assert left_behind(table.folder) == ["raw"]


def test_times_that_cannot_be_read_are_told_from_those_outside_the_stay(table: Table) -> None:
    (table.raw / "rows.csv").write_text(HEADER + "1,0,hr,80\n1,00:30,hr,81\n1,-1,hr,82\n1,2,hr,83\n")
    store = table.prepare()
    assert [time for _, time, *_ in events(store)] == [0.0, 2.0]
    assert counts(store) == {"unreadable_time": 1, "bad_time": 1}


@pytest.mark.parametrize(("unit", "factor"), [("minutes", 60.0), ("seconds", 3600.0), ("days", 1 / 24)])
@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_times_in_another_unit(table: Table, unit: str, factor: float, name: str) -> None:
    table.rows(pl.DataFrame(ROWS).with_columns(pl.col("time") * factor), name)
    stays = table.file("stays.csv", {"stay_id": [1, 2], "length_hours": [10 * factor, 20 * factor]})
    store = table.prepare(stays=stays, columns={"time_unit": unit})
    assert [time for _, time, *_ in events(store)] == pytest.approx([0.0, 1.5, 3.0, 0.5, 4.0], abs=1e-5)
    assert store.length_hours.tolist() == pytest.approx([10.0, 20.0])


def test_a_stay_of_two_patients_is_refused(table: Table) -> None:
    table.rows()
    stays = table.file("stays.csv", {"stay_id": [1, 2, 1], "patient_id": [7, 8, 9]})
    with pytest.raises(ValueError, match=r"stays\.csv: stay 1 is of several patients"):
        table.prepare(stays=stays)


def test_more_names_than_variables_can_be(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    table.rows()
    monkeypatch.setattr(table_files, "MOST_NAMES", 1)
    with pytest.raises(ValueError, match=r"more than 1 different names in the column 'variable'"):
        table.prepare()


def test_a_label_at_a_timestamp_needs_an_admission(table: Table) -> None:
    table.rows()
    given = labels(("died", 1, datetime(2024, 3, 1, 14), 1.0, 0), ("died", 2, ADMISSION[2], 0.0, 0))
    store = table.prepare(labels=table.file("l.parquet", given), tasks={"died": {"task_type": "binary"}})
    assert counts(store)["label_without_admission"] == 2


def test_numbers_with_a_few_words_are_no_categories(table: Table) -> None:
    table.rows()
    stays = table.file("stays.csv", {"stay_id": [1, 2, 3, 4], "age": ["71", "> 89", "64", "53"]})
    store = table.prepare(stays=stays, statics=["age"])
    assert [v.name for v in store.variables if v.static] == ["age"]
    assert counts(store)["unreadable_static"] == 1
    assert sorted(value for *_, name, value in events(store) if name == "age") == [53.0, 64.0, 71.0]


def test_rows_without_a_stay_are_counted_as_such(ricu: Ricu) -> None:
    stay = [1.0, 1.5, float("nan"), float("nan")]
    dyn = pl.DataFrame({"stay_id": stay, "time": [0, 0, 0, 0], "hr": [80.0] * 4})
    store = ricu.prepared(dyn=dyn)
    assert counts(store)["row_without_id"] == 3 and "repeated_hour" not in counts(store)


def test_nothing_is_left_behind_where_there_is_no_stay(table: Table, left_behind: Any) -> None:
    table.rows(pl.DataFrame(ROWS).clear())
    with pytest.raises(ValueError, match="holds no stay"):
        table.prepare()
    assert left_behind(table.folder) == ["raw"]


def member(raw: Path, **options: Any) -> dict[str, Any]:
    return {"source": {"name": "ricu", "raw": str(raw)} | options}


def test_a_pool_does_not_take_one_folder_for_two_hospitals(ricu: Ricu, tmp_path: Path) -> None:
    ricu.prepared()
    pool = {"name": "pool", "members": {"one": member(ricu.raw), "two": member(ricu.raw, task_name="died")}}
    with pytest.raises(ValueError, match=r"members one and two are both read from .*hospital"):
        prepare_dataset(build_source(pool), tmp_path / "pool")


def test_a_pool_does_not_take_two_unnamed_tasks_for_one(ricu: Ricu, tmp_path: Path) -> None:
    ricu.prepared()
    other = Ricu(tmp_path / "other")
    other.prepared()
    pool = {"name": "pool", "members": {"one": member(ricu.raw), "two": member(other.raw)}}
    with pytest.raises(ValueError, match=r"members one and two both have a task 'label'.*task_name"):
        prepare_dataset(build_source(pool), tmp_path / "pool")
    named = {"one": member(ricu.raw, task_name="died"), "two": member(other.raw, task_name="died")}
    assert len(prepare_dataset(build_source(pool | {"members": named}), tmp_path / "pool")) == 6


def test_a_label_that_is_none_names_its_file(ricu: Ricu) -> None:
    with pytest.raises(ValueError, match=r"outc\.parquet: task 'label', stay 1: its label is not a class"):
        ricu.prepared(outc=pl.DataFrame({"stay_id": [1], "label": [7]}))
