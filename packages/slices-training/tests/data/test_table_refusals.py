"""Tables that cannot be read, and options that do not fit them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from slices.training.data import build_source
from slices.training.data.sources.table import files as table_files
from stored import counts
from table_raw import ADMISSION, ROWS, TASKS, Table, events, labels, stamped

Change = Callable[[pl.DataFrame], pl.DataFrame]


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop("time"), r"unknown column 'time'.*Set data\.source\.columns\.time to its name"),
        (lambda t: t.rename({"stay_id": "stayid"}), r"unknown column 'stay_id': did you mean 'stayid'"),
        (
            lambda t: t.with_columns(pl.col("stay_id").replace_strict({1: "p1", 2: "2"})),
            r"row 2, column 'stay_id': 'a9' is no whole number",
        ),
        (
            lambda t: t.with_columns(pl.col("stay_id") + 0.5),
            r"row \d, column 'stay_id': '9.9' is no whole number",
        ),
    ],
)
def test_a_malformed_table_is_refused(
    table: Table, name: str, change: Change, message: str, left_behind: Any
) -> None:
    table.rows(change(pl.DataFrame(ROWS)), name)
    with pytest.raises(ValueError, match=rf"{name}.*{message}"):
        table.prepare()
    assert left_behind(table.folder) == ["raw"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.with_columns(value=pl.lit([1.0])), "column 'value' holds List"),
        (lambda t: t.with_columns(value=pl.date(2024, 1, 1)), "column 'value' holds Date"),
        (lambda t: t.with_columns(time=pl.date(2024, 1, 1)), "column 'time' holds Date.*or a timestamp"),
        (lambda t: t.with_columns(stay_id=pl.lit(True)), "column 'stay_id' holds Boolean"),
        (lambda t: t.with_columns(variable=pl.lit(1.5)), "column 'variable' holds Float64"),
    ],
)
def test_wrong_types_are_refused(table: Table, change: Change, message: str) -> None:
    table.rows(change(pl.DataFrame(ROWS)))
    with pytest.raises(ValueError, match=rf"rows\.parquet: {message}.*convert it"):
        table.prepare()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty CSV"),
        (b"stay_id,time,variable,value\n1,2,hr,3,4\n", "more fields"),
        (b"stay_id,time,variable,value\n1,2,\xff\xfe,3\n", "utf-8"),
    ],
)
def test_what_is_no_csv_is_named(table: Table, content: bytes, message: str) -> None:
    (table.raw / "rows.csv").write_bytes(content)
    with pytest.raises(ValueError, match=rf"rows\.csv cannot be read .*{message}"):
        table.prepare()


def test_a_csv_as_spreadsheets_write_it(table: Table) -> None:
    text = '\ufeffstay_id,time,variable,value\r\n1,0," hr",80\r\n\r\n1,1,hr\r\n1,2,"hr, art",3\r\n'
    (table.raw / "rows.csv").write_bytes(text.encode())
    store = table.prepare()
    assert events(store) == [(1, 0.0, "hr", 80.0), (1, 2.0, "hr, art", 3.0)]
    assert counts(store) == {"no_stay": 1, "not_finite": 1}


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("which", ["rows", "stays", "labels"])
def test_a_truncated_parquet_file_is_named(table: Table, which: str, share: float, left_behind: Any) -> None:
    table.rows()
    stays = table.file("stays.parquet", {"stay_id": [1, 2]})
    label = table.file("labels.parquet", labels(("died", 1, 24.0, 1, 0)))
    path = {"rows": table.raw / "rows.parquet", "stays": Path(stays), "labels": Path(label)}[which]
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=rf"{which}\.parquet cannot be read .*truncated"):
        table.prepare(stays=stays, labels=label, tasks=TASKS)
    assert sorted(left_behind(table.folder)) == ["labels.parquet", "raw", "stays.parquet"]


def test_a_corrupted_parquet_file_is_named(table: Table) -> None:
    table.rows(pl.concat([pl.DataFrame(ROWS)] * 500))
    path = table.raw / "rows.parquet"
    content = bytearray(path.read_bytes())
    content[4:60] = bytes(56)  # inside the first page
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"rows\.parquet cannot be read"):
        table.prepare()


def test_a_time_zone_on_one_side_only_is_refused(table: Table) -> None:
    table.rows(stamped())
    admissions = [moment.replace(tzinfo=UTC) for moment in ADMISSION.values()]
    stays = table.file("stays.parquet", {"stay_id": [1, 2], "admission_time": admissions})
    with pytest.raises(
        ValueError, match=r"rows\.parquet, row 1, column 'time': '9999-99-99 99:99.* no time zone"
    ):
        table.prepare(stays=stays)
    text = "stay_id,time,variable,value\n1,2024-03-01 10:00,hr,1\n1,2024-03-01T12:00Z,hr,1\n"
    (table.raw / "rows.parquet").unlink()
    (table.raw / "rows.csv").write_text(text)
    with pytest.raises(
        ValueError, match=r"rows\.csv, row 2, column 'time': .* has a time zone, .* give both"
    ):
        table.prepare()


@pytest.mark.parametrize("name", ["stays.csv", "stays.parquet"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"stay": [1, 2]}, r": unknown column 'stay_id'"),
        ({"stay_id": ["1", "two"]}, r", row 2, column 'stay_id': 'aaa' is no whole number"),
        (
            {"stay_id": [1, 2], "patient_id": ["a", "7"]},
            r", row 1, column 'patient_id': 'a' is no whole number",
        ),
        (
            {"stay_id": [1, 2], "length_hours": [24.0, -1.0]},
            r", row 2, column 'length_hours': '-9\.9' is no length",
        ),
        (
            {"stay_id": [1, 2], "length_hours": ["1 day", "2"]},
            r", row 1, column 'length_hours': '9 aaa' is no length",
        ),
        (
            {"stay_id": [1, 2], "admission_time": [None, "yesterday"]},
            r", row 2, column 'admission_time': 'aaaaaaaaa' is no timestamp",
        ),
        (
            {"stay_id": [1, 2], "admission_time": [5, 6]},
            r", row 1, column 'admission_time': '9' is no timestamp",
        ),
    ],
)
def test_a_malformed_stays_file_is_refused(
    table: Table, name: str, content: dict[str, Any], message: str
) -> None:
    table.rows()
    with pytest.raises(ValueError, match=rf"{name}{message}"):
        table.prepare(stays=table.file(name, content))


def test_names_that_clash_or_are_not_known_are_refused(
    table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    table.rows()
    stays = table.file("stays.csv", {"stay_id": [1, 2], "hr": [1, 2], "age": [50, 60]})
    with pytest.raises(ValueError, match=r"stays\.csv: 'hr' is also a variable that is not static"):
        table.prepare(stays=stays, statics=["hr"])
    with pytest.raises(ValueError, match=r"stays\.csv: unknown column 'agee': did you mean 'age'"):
        table.prepare(stays=stays, statics=["agee"])
    with pytest.raises(ValueError, match=r"stays\.csv: unknown column 'subject'"):
        table.prepare(stays=stays, columns={"patient": "subject"})
    path = table.folder / "mine.yaml"
    path.write_text("heart_rate: {unit: bpm}\n")
    with pytest.raises(
        ValueError, match=r"none of the names in the table: unknown variable 'hr'.*heart_rate"
    ):
        table.prepare(vocabulary=str(path))
    path.write_text("hr: {unit: bpm}\nage: {static: true}\n")
    store = table.prepare(vocabulary=str(path))
    assert (
        counts(store) == {"unknown_variable": 1} and "1 names are not in the vocabulary: lact" in caplog.text
    )
    table.rows(
        pl.DataFrame({"stay_id": [1], "time": [0.0], "variable": ["age"], "value": [50.0]}), "more.parquet"
    )
    with pytest.raises(ValueError, match=r"stays\.csv: the table has 'age' too"):
        table.prepare(vocabulary=str(path), stays=stays, statics=["age"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"statics": ["age"]}, "statics=.*give `stays` too"),
        ({"labels": "labels.csv"}, "give both or neither"),
        ({"tasks": TASKS}, "give both or neither"),
        ({"columns": {"stay": "s", "tiem": "t"}}, "unknown option 'tiem': did you mean 'time'"),
        (
            {"labels": "x", "tasks": {"died": {"task_typ": "binary"}}},
            r"tasks\.died: unknown option 'task_typ'",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_source({"name": "table"} | options)


def test_missing_files_are_named(table: Table) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no \.parquet or \.csv file at .*raw: set data\.source\.raw"
    ):
        table.prepare()
    table.rows()
    with pytest.raises(FileNotFoundError, match=r"no file nowhere\.csv"):
        table.prepare(stays="nowhere.csv")
    with pytest.raises(TypeError, match=r"tasks\.died: 'binary' must be a mapping"):
        build_source({"name": "table", "labels": "x", "tasks": {"died": "binary"}})


def test_the_rows_of_a_csv_keep_their_numbers_in_errors(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_files, "ROWS", 1)
    table.rows(pl.DataFrame(ROWS).with_columns(stay_id=pl.Series(["1", "2", "2", "x1", "2"])), "rows.csv")
    with pytest.raises(ValueError, match=r"rows\.csv, row 4, column 'stay_id': 'a9' is no whole number"):
        table.prepare()
