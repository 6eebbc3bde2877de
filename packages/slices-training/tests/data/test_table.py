from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from slices.training.data import StayStore, Tally, build_source, prepare_dataset
from slices.training.data.sources.table import files as table_files
from slices.training.data.vocabulary import read_vocabulary

ROWS = {
    "stay_id": [2, 1, 1, 1, 2],
    "time": [0.5, 3.0, 0.0, 1.5, 4.0],
    "variable": ["hr", "lact", "hr", "hr", "hr"],
    "value": [70.0, 2.5, 80.0, 81.0, 72.0],
}
EVENTS = [
    (1, 0.0, "hr", 80.0),
    (1, 1.5, "hr", 81.0),
    (1, 3.0, "lact", 2.5),
    (2, 0.5, "hr", 70.0),
    (2, 4.0, "hr", 72.0),
]


class Table:
    """A folder of raw files, and the dataset made of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.raw = folder, folder / "raw"
        self.raw.mkdir()

    def rows(self, table: pl.DataFrame | None = None, name: str = "rows.parquet") -> None:
        self.write(self.raw / name, pl.DataFrame(ROWS) if table is None else table)

    def file(self, name: str, content: dict[str, Any]) -> str:
        path = self.folder / name
        self.write(path, pl.DataFrame(content))
        return str(path)

    @staticmethod
    def write(path: Path, table: pl.DataFrame) -> None:
        table.write_csv(path) if path.suffix == ".csv" else table.write_parquet(path)

    def prepare(self, **options: Any) -> StayStore:
        source = build_source({"name": "table", "raw": str(self.raw)} | options)
        return prepare_dataset(source, self.folder / "dataset", overwrite=True)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path)


def events(store: StayStore) -> list[tuple[int, float, str, float]]:
    stay = np.repeat(store.stay_id, np.diff(store.offsets)).tolist()
    names = [store.variables[i].name for i in store.variable]
    return sorted(zip(stay, store.time.tolist(), names, store.value.tolist(), strict=True))


def counts(store: StayStore) -> dict[str, int]:
    return {rule: entry["count"] for rule, entry in store.manifest.drops.items()}


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


def test_the_rows_of_a_csv_keep_their_numbers_in_errors(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_files, "ROWS", 1)
    table.rows(pl.DataFrame(ROWS).with_columns(stay_id=pl.Series(["1", "2", "2", "x1", "2"])), "rows.csv")
    with pytest.raises(ValueError, match=r"rows\.csv, row 4, column 'stay_id': 'x1' is no whole number"):
        table.prepare()


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


ADMISSION = {1: datetime(2024, 3, 1, 12, 0), 2: datetime(2024, 3, 30, 23, 30)}  # 2 spans a change to summer


def stamped() -> pl.DataFrame:
    stamps = [
        ADMISSION[stay] + timedelta(hours=time)
        for stay, time in zip(ROWS["stay_id"], ROWS["time"], strict=True)
    ]
    return pl.DataFrame(ROWS).with_columns(time=pl.Series(stamps))


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


TASKS: dict[str, Any] = {
    "died": {"task_type": "binary"},
    "los": {"task_type": "regression"},
    "unwell": {"task_type": "multiclass", "classes": ["no", "a bit", "much"], "per_step": True},
    "failure": {"task_type": "multilabel", "classes": ["renal", "liver"]},
}


def labels(*rows: tuple[Any, ...]) -> dict[str, list[Any]]:
    columns = ("task", "stay_id", "prediction_time", "value", "column")
    return {name: list(column) for name, column in zip(columns, zip(*rows, strict=True), strict=True)}


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet"])
def test_labels_of_every_type(table: Table, name: str) -> None:
    table.rows()
    given = labels(
        ("died", 1, 24.0, "True", None),
        ("died", 2, 24.0, "0", 0),
        ("los", 1, 24.0, " 3.5", None),
        ("unwell", 1, 1.0, "0", 0),
        ("unwell", 1, 2.0, "2", 0),
        ("failure", 2, 12.0, "1", 0),
        ("failure", 2, 12.0, "0", 1),
        ("died", 3, 24.0, "1", 0),
        ("los", 2, 24.0, None, 0),
        ("los", 2, None, "1", 0),
        ("unwell", 1, 2.0, "2.0", 0),
    )
    store = table.prepare(labels=table.file(name, given), tasks=TASKS)
    assert store.labels("died").select("stay_id", "prediction_time", "value").rows() == [
        (1, 24.0, 1.0),
        (2, 24.0, 0.0),
    ]
    assert store.labels("los")["value"].to_list() == [3.5]
    assert store.labels("unwell").select("prediction_time", "value").rows() == [(1.0, 0.0), (2.0, 2.0)]
    assert store.labels("failure").select("column", "value").rows() == [(0, 1.0), (1, 0.0)]
    assert store.manifest.tasks["died"].classes == ("negative", "positive")
    assert counts(store) == {
        "label_without_stay": 1,
        "no_label": 1,
        "label_without_time": 1,
        "repeated_label": 1,
    }


def test_labels_of_the_only_task_at_timestamps(table: Table) -> None:
    table.rows(stamped())
    at = [ADMISSION[1] + timedelta(hours=6), ADMISSION[2] + timedelta(hours=30)]
    path = table.file("labels.csv", {"stay_id": [1, 2], "prediction_time": at, "value": [True, False]})
    stays = table.file("stays.csv", {"stay_id": [1, 2, 3], "admission_time": [*ADMISSION.values(), None]})
    store = table.prepare(stays=stays, labels=path, tasks={"died": TASKS["died"]})
    assert store.labels("died").select("prediction_time", "value").sort("value").rows() == [
        (30.0, 0.0),
        (6.0, 1.0),
    ]
    assert counts(store) == {"no_outcome": 1}


def test_labels_after_the_end_of_a_stay(table: Table) -> None:
    table.rows()
    given = labels(*(("died", stay, time, "1", 0) for stay, time in ((1, 6.0), (1, 6.1), (2, 6.1), (3, 5.0))))
    stays = table.file("stays.csv", {"stay_id": [1, 2, 3], "length_hours": [6.0, None, None]})
    store = table.prepare(stays=stays, labels=table.file("labels.csv", given), tasks={"died": TASKS["died"]})
    died = store.labels("died")
    assert died["stay_id"].to_list() == [1, 2, 3]
    assert died["prediction_time"].to_list() == pytest.approx([6.0, 6.1, 5.0])
    assert counts(store)["label_after_stay"] == 1
    assert store.length_hours.tolist() == pytest.approx([6.0, 6.1, 5.0])  # not known: up to the last label


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


Change = Callable[[pl.DataFrame], pl.DataFrame]


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop("time"), r"unknown column 'time'.*Set data\.source\.columns\.time to its name"),
        (lambda t: t.rename({"stay_id": "stayid"}), r"unknown column 'stay_id': did you mean 'stayid'"),
        (
            lambda t: t.with_columns(pl.col("stay_id").replace_strict({1: "p1", 2: "2"})),
            r"row 2, column 'stay_id': 'p1' is no whole number",
        ),
        (
            lambda t: t.with_columns(pl.col("stay_id") + 0.5),
            r"row \d, column 'stay_id': '\d\.5' is no whole number",
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
        ValueError, match=r"rows\.parquet, row 1, column 'time': '2024-03-31 00:00.* no time zone"
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
        ({"stay_id": ["1", "two"]}, r", row 2, column 'stay_id': 'two' is no whole number"),
        (
            {"stay_id": [1, 2], "patient_id": ["a", "7"]},
            r", row 1, column 'patient_id': 'a' is no whole number",
        ),
        (
            {"stay_id": [1, 2], "length_hours": [24.0, -1.0]},
            r", row 2, column 'length_hours': '-1\.0' is no length",
        ),
        (
            {"stay_id": [1, 2], "length_hours": ["1 day", "2"]},
            r", row 1, column 'length_hours': '1 day' is no length",
        ),
        (
            {"stay_id": [1, 2], "admission_time": [None, "yesterday"]},
            r", row 2, column 'admission_time': 'yesterday' is no timestamp",
        ),
        (
            {"stay_id": [1, 2], "admission_time": [5, 6]},
            r", row 1, column 'admission_time': '5' is no timestamp",
        ),
    ],
)
def test_a_malformed_stays_file_is_refused(
    table: Table, name: str, content: dict[str, Any], message: str
) -> None:
    table.rows()
    with pytest.raises(ValueError, match=rf"{name}{message}"):
        table.prepare(stays=table.file(name, content))


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet"])
@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            ("dead", 1, 24.0, "1", 0),
            r"labels.*, row 1, column 'task': 'dead' is none of data\.source\.tasks: died",
        ),
        (("died", 1, 24.0, "perhaps", 0), r"labels.*, row 1, column 'value': 'perhaps' is no number"),
        (("failure", 1, 24.0, "1", "renal"), r"labels.*, row 1, column 'column': 'renal' is no whole number"),
        (("died", 1, 24.0, "2", 0), "task 'died', stay 1: the label 2.0 .* is not a class"),
        (("died", 1, 24.0, "1", 3), "task 'died', stay 1: .* has a column over 0"),
    ],
)
def test_a_malformed_label_is_refused(table: Table, name: str, row: tuple[Any, ...], message: str) -> None:
    table.rows()
    with pytest.raises(ValueError, match=message):
        table.prepare(labels=table.file(name, labels(row)), tasks=TASKS)


def test_two_different_labels_are_refused(table: Table) -> None:
    table.rows()
    given = labels(("died", 1, 24.0, "1", 0), ("died", 1, 24.0, "0", 0))
    with pytest.raises(ValueError, match=r"task 'died', stay 1: .* is given twice"):
        table.prepare(labels=table.file("labels.csv", given), tasks=TASKS)
    table.file("labels.csv", {"stay_id": [1], "prediction_time": [24.0], "value": [1]})
    with pytest.raises(ValueError, match=r"labels\.csv: unknown column 'task'"):
        table.prepare(labels=str(table.folder / "labels.csv"), tasks=TASKS)


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
