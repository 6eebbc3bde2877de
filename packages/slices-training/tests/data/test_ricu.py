"""Hourly tables: rows, labels, patients and parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import stored
from ricu_raw import HOUR, Ricu, hourly_tables, with_rows
from slices.training.data import StayStore, build_source, prepare_dataset
from slices.training.data.samples import labelled
from slices.training.data.sources.ricu import tables
from slices.training.data.views import View
from slices.training.data.vocabulary import read_vocabulary
from stored import counts


def events(store: StayStore) -> set[stored.Event]:
    return set(stored.events(store))


def test_a_row_of_hour_t_is_at_t_and_its_label_at_its_end(ricu: Ricu) -> None:
    store = ricu.prepared()
    assert events(store) == {
        (1, 0.0, "hr", 80.0),
        (1, 2.0, "hr", 90.0),
        (1, 1.0, "lact", 1.5),
        (2, 0.0, "hr", 70.0),
        (2, 1.0, "hr", 71.0),
        (2, 1.0, "lact", 2.0),
        (1, 0.0, "age", 60.0),
        (1, 0.0, "sex", 1.0),
        (2, 0.0, "age", 70.0),
        (2, 0.0, "sex", 0.0),
    }
    assert [v.name for v in store.variables] == list(read_vocabulary("icu"))
    assert store.length_hours.tolist() == [3.0, 2.0, 0.0]
    labels = store.labels("label")
    assert labels.select("stay_id", "prediction_time", "value").rows() == [
        (1, 1.0, 0.0),
        (1, 2.0, 0.0),
        (1, 3.0, 1.0),
        (2, 1.0, 0.0),
        (2, 2.0, 0.0),
    ]
    assert counts(store) == {"no_hours": 1, "no_outcome": 1, "no_patient": 3}
    none = np.zeros(len(store.variables), dtype=bool)
    view = View(column=np.arange(len(none)), static=none, summed=none, resolution=1.0, horizon=4.0)
    samples = labelled(store, store.manifest.tasks["label"], view, None, per_step=True)
    assert samples.label is not None and samples.label_mask is not None
    assert samples.label[0].tolist() == [0, 0, 1, 0] and samples.label_mask[0].tolist() == [1, 1, 1, 0]


def test_one_label_a_stay_is_at_the_prediction_time(ricu: Ricu) -> None:
    ricu.write(hourly_tables() | {"outc": pl.DataFrame({"stay_id": [1, 2], "label": [1, 0]})})
    store = ricu.prepare(task_name="mortality", prediction_time=2)
    assert store.labels("mortality").select("stay_id", "prediction_time", "value").rows() == [
        (1, 2.0, 1.0),
        (2, 2.0, 0.0),
    ]
    assert not store.manifest.tasks["mortality"].per_step
    assert store.length_hours.tolist() == [3.0, 2.0, 0.0]


@pytest.mark.parametrize("label", [[0, 2, 1, 0, 0], [0.0, 2.0, 1.0, 0.0, 0.0]])
def test_labels_of_several_classes(ricu: Ricu, label: list[Any]) -> None:
    given = hourly_tables()
    ricu.write(given | {"outc": given["outc"].with_columns(label=pl.Series(label))})
    store = ricu.prepare(task_type="multiclass", classes=["none", "mild", "severe"])
    assert store.labels("label")["value"].to_list() == [0, 2, 1, 0, 0]
    assert store.manifest.tasks["label"].classes == ("none", "mild", "severe")


def test_without_outc_there_is_no_task(ricu: Ricu) -> None:
    given = hourly_tables()
    ricu.write({"dyn": given["dyn"], "sta": given["sta"]})
    store = ricu.prepare()
    assert store.manifest.tasks == {} and store.manifest.counts["labels"] == 0
    assert store.length_hours.tolist() == [3.0, 2.0, 0.0]


@pytest.mark.parametrize("dtype", [pl.Float64, pl.Int16, pl.Duration("ns"), pl.Duration("us")])
def test_time_in_any_unit(ricu: Ricu, dtype: Any) -> None:
    given = hourly_tables()
    hour = pl.col("time").dt.total_hours()
    time = pl.col("time").cast(dtype) if isinstance(dtype, pl.Duration) else hour.cast(dtype)
    wanted = events(ricu.prepared())
    store = ricu.prepared(**{name: given[name].with_columns(time) for name in ("dyn", "outc")})
    assert events(store) == wanted and store.length_hours.tolist() == [3.0, 2.0, 0.0]


def test_labels_that_come_later_make_another_dataset(ricu: Ricu) -> None:
    tables = hourly_tables()
    outc = tables.pop("outc")
    ricu.write(tables)
    ricu.prepare()
    outc.write_parquet(ricu.raw / "outc.parquet")
    with pytest.raises(ValueError, match=r"data\.source\.raw was 2 files .* is 3 files .*overwrite=true"):
        prepare_dataset(build_source(ricu.options()), ricu.folder / "dataset")


def test_the_patient_is_that_of_sta(ricu: Ricu) -> None:
    sta = hourly_tables()["sta"].with_columns(subject_id=pl.Series([7, 7, None]))
    store = ricu.prepared(sta=sta)
    assert store.patient_id.tolist() == [7, 7, 3] and counts(store)["no_patient"] == 1


def test_the_patient_is_in_the_column_that_is_named(ricu: Ricu) -> None:
    ricu.write(hourly_tables() | {"sta": hourly_tables()["sta"].with_columns(person=pl.Series([7, 8, 7]))})
    assert ricu.prepare(patient_column="person").patient_id.tolist() == [7, 8, 7]
    with pytest.raises(ValueError, match=r"sta\.parquet: unknown column 'persn': did you mean 'person'"):
        ricu.prepare(patient_column="persn")


@pytest.mark.parametrize("name", ["patients.parquet", "patients.csv"])
def test_patients_may_have_a_file_of_their_own(
    ricu: Ricu, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("slices.training.data.sources.ricu.tables.ROWS", 2)
    ricu.write(hourly_tables())
    path = ricu.folder / name
    table = pl.DataFrame({"stay_id": [9, 3, 1, 1, None], "person": [5, None, 7, 7, 7]})
    table.write_parquet(path) if path.suffix == ".parquet" else table.write_csv(path)
    store = ricu.prepare(patients=str(path), patient_column="person")
    assert store.stay_id.tolist() == [1, 2, 3] and store.patient_id.tolist() == [7, 2, 3]
    assert counts(store)["no_patient"] == 2
    with pytest.raises(ValueError, match=r"unknown column 'patient_id'.*patient_column to its name"):
        ricu.prepare(patients=str(path))
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere"):
        ricu.prepare(patients="nowhere.parquet")
    with pytest.raises(ValueError, match=r"with patients=.*patients\.\w+, asked for is none"):
        ricu.prepare(patients=str(path), patient_column="person")
        prepare_dataset(build_source(ricu.options(patient_column="person")), ricu.folder / "dataset")


@pytest.mark.parametrize(
    ("stay", "person", "message"),
    [
        ([1, 2], ["1", "p2"], r"patients\.parquet, row 2, column 'patient_id': 'a9' is no whole number"),
        ([1, 1], [4, 5], r"patients\.parquet: stay 1 is of several patients"),
        ([1, 2], [True, False], r"column 'patient_id' holds Boolean, not whole numbers"),
    ],
)
def test_patients_that_cannot_be_are_refused(
    ricu: Ricu, stay: list[Any], person: list[Any], message: str
) -> None:
    ricu.write(hourly_tables())
    path = ricu.folder / "patients.parquet"
    pl.DataFrame({"stay_id": stay, "patient_id": person}).write_parquet(path)
    with pytest.raises(ValueError, match=message):
        ricu.prepare(patients=str(path))


def test_parts_are_ranges_of_stays_and_change_nothing(ricu: Ricu, monkeypatch: pytest.MonkeyPatch) -> None:
    given = hourly_tables()
    extra = given["dyn"].head(1).with_columns(stay_id=pl.Series([-5], dtype=pl.Int32))
    nobody = given["dyn"].head(1).with_columns(stay_id=pl.lit(None, pl.Int32))
    dyn = pl.concat([extra, given["dyn"][::-1], nobody, extra.with_columns(stay_id=pl.lit(9, pl.Int32))])
    whole = ricu.prepared(dyn=dyn)
    monkeypatch.setattr(tables, "ROWS", 3)
    source = build_source(ricu.options())
    assert [part.name for part in source.parts()] == ["1 of 3", "2 of 3", "3 of 3"]
    store = ricu.prepare()
    assert store.manifest.fingerprint == whole.manifest.fingerprint
    assert counts(store) == counts(whole)
    assert counts(store)["unknown_stay"] == 2 and counts(store)["row_without_id"] == 1


@pytest.mark.parametrize(
    ("table", "row", "rule"),
    [
        ("dyn", (1, -2 * HOUR, 99.0, None), "bad_time"),
        ("dyn", (1, None, 99.0, None), "bad_time"),
        ("dyn", (8, HOUR, 99.0, None), "unknown_stay"),
        ("dyn", (1, HOUR, 99.0, 3.0), "repeated_hour"),
        ("dyn", (3, 0 * HOUR, 9999.0, None), "out_of_range"),
        ("dyn", (3, 0 * HOUR, float("inf"), None), "not_finite"),
        ("sta", (1, 33.0, "Female"), "repeated_stay"),
        ("sta", (None, 33.0, "Female"), "stay_without_id"),
        ("sta", (4, 33.0, "unknown"), "unreadable_static"),
        ("sta", (4, 330.0, "m"), "out_of_range"),
        ("outc", (8, HOUR, True), "label_without_stay"),
        ("outc", (3, HOUR, None), "no_label"),
        ("outc", (1, -1 * HOUR, True), "label_without_hour"),
        ("outc", (1, None, True), "label_without_hour"),
        ("outc", (1, HOUR, False), "repeated_label"),
    ],
)
def test_what_cannot_be_used_is_counted(ricu: Ricu, table: str, row: tuple[Any, ...], rule: str) -> None:
    whole, given = ricu.prepared(), hourly_tables()[table]
    before, plain = counts(whole), events(whole)
    store = ricu.prepared(**{table: with_rows(given, row)})
    assert counts(store)[rule] == before.get(rule, 0) + 1
    new_stay = {event for event in events(store) if event[0] == 4}
    assert events(store) - new_stay == plain
    assert len(store.labels("label")) == 5


def test_cells_that_are_nan_hold_nothing(ricu: Ricu) -> None:
    given = hourly_tables()
    nan = given["dyn"].with_columns(pl.col("hr", "lact").fill_null(float("nan")))
    assert events(ricu.prepared(dyn=nan)) == events(ricu.prepared())


def test_unknown_columns_are_kept_when_asked(ricu: Ricu) -> None:
    given = hourly_tables()
    dyn = given["dyn"].with_columns(set=pl.lit(1.0), ecmo=pl.lit(True))
    sta = given["sta"].with_columns(adm=pl.Series(["med", " surg", ""]), bmi=pl.Series([20.5, None, 31.0]))
    ricu.write(given | {"dyn": dyn, "sta": sta})
    store = ricu.prepare(keep_unknown=True)
    extra = store.variables[len(read_vocabulary("icu")) :]
    assert [(v.name, v.static) for v in extra] == [
        ("set", False),
        ("ecmo", False),
        ("adm_med", True),
        ("adm_surg", True),
        ("bmi", True),
    ]
    found = events(store)
    assert {(s, n, x) for s, t, n, x in found if n.startswith("adm")} == {
        (1, "adm_med", 1.0),
        (1, "adm_surg", 0.0),
        (2, "adm_med", 0.0),
        (2, "adm_surg", 1.0),
    }
    assert {(1, 1.0, "ecmo", 1.0), (1, 1.0, "set", 1.0), (3, 0.0, "bmi", 31.0)} <= found


def test_a_vocabulary_of_ones_own_is_known_by_its_content(ricu: Ricu, tmp_path: Path) -> None:
    ricu.write(hourly_tables())
    path = tmp_path / "mine.yaml"
    path.write_text("hr: {unit: bpm}\nlact:\nage: {static: true}\nsex: {static: true}\n")
    store = ricu.prepare(vocabulary=str(path))
    assert [variable.name for variable in store.variables] == ["hr", "lact", "age", "sex"]
    path.write_text("hr: {unit: Hz}\nlact:\nage: {static: true}\nsex: {static: true}\n")
    with pytest.raises(ValueError, match="vocabulary='mine"):
        prepare_dataset(build_source(ricu.options(vocabulary=str(path))), store.directory)
