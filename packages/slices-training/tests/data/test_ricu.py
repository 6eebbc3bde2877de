from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from slices.training.data import DataConfig, StayDataModule, StayStore, build_source, prepare_dataset
from slices.training.data.samples import labelled
from slices.training.data.sources.ricu import tables
from slices.training.data.views import View
from slices.training.data.vocabulary import read_vocabulary

HOUR = timedelta(hours=1)
Tables = dict[str, pl.DataFrame]


def hourly_tables() -> Tables:
    """Two stays of three and two hours, and a third without a row; labels every hour."""
    times = pl.Series([0 * HOUR, HOUR, 2 * HOUR, 0 * HOUR, HOUR], dtype=pl.Duration("ms"))
    stay = pl.Series([1, 1, 1, 2, 2], dtype=pl.Int32)
    dyn = {"hr": [80.0, None, 90.0, 70.0, 71.0], "lact": [None, 1.5, None, None, 2.0]}
    sta = {"stay_id": [1, 2, 3], "age": [60.0, 70.0, None], "sex": ["Male", "Female", None]}
    return {
        "dyn": pl.DataFrame({"stay_id": stay, "time": times, **dyn}),
        "sta": pl.DataFrame(sta),
        "outc": pl.DataFrame({"stay_id": stay, "time": times, "label": [False, False, True, False, False]}),
    }


class Ricu:
    """A folder of the three tables, and the dataset made of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.raw = folder, folder / "raw"
        self.raw.mkdir()

    def write(self, tables: Tables) -> None:
        for name, table in tables.items():
            table.write_parquet(self.raw / f"{name}.parquet")

    def options(self, **options: Any) -> dict[str, Any]:
        return {"name": "ricu", "raw": str(self.raw)} | options

    def prepare(self, **options: Any) -> StayStore:
        return prepare_dataset(build_source(self.options(**options)), self.folder / "dataset", overwrite=True)

    def prepared(self, **changes: pl.DataFrame) -> StayStore:
        self.write(hourly_tables() | changes)
        return self.prepare()


@pytest.fixture
def ricu(tmp_path: Path) -> Ricu:
    return Ricu(tmp_path)


def events(store: StayStore) -> set[tuple[int, float, str, float]]:
    stay = np.repeat(store.stay_id, np.diff(store.offsets))
    names = [variable.name for variable in store.variables]
    rows = zip(stay, store.time, store.variable, store.value, strict=True)
    return {(int(s), float(t), names[v], float(x)) for s, t, v, x in rows}


def counts(store: StayStore) -> dict[str, int]:
    return {rule: entry["count"] for rule, entry in store.manifest.drops.items()}


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
        ([1, 2], ["1", "p2"], r"patients\.parquet, row 2, column 'patient_id': 'p2' is no whole number"),
        ([1, 1], [4, 5], r"patients\.parquet: stay 1 is of the patients 4 and 5"),
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
    assert counts(store) == counts(whole) and counts(store)["unknown_stay"] == 3


def with_rows(table: pl.DataFrame, *rows: tuple[Any, ...]) -> pl.DataFrame:
    return pl.concat([table, pl.DataFrame(rows, table.schema, orient="row")])


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
    before, given = counts(ricu.prepared()), hourly_tables()[table]
    plain = events(ricu.prepared())
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


def edited(name: str, change: Any) -> Any:
    return lambda tables: tables | {name: change(tables[name])}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edited("dyn", lambda t: t.drop("time")), r"dyn\.parquet: unknown column 'time'.*rename yours"),
        (edited("sta", lambda t: t.rename({"stay_id": "stayid"})), r"sta\.parquet.*did you mean 'stayid'"),
        (edited("outc", lambda t: t.drop("label")), r"outc\.parquet: unknown column 'label'"),
        (
            edited("dyn", lambda t: t.rename({"lact": "lactt"})),
            r"dyn\.parquet: unknown variable 'lactt': did you mean 'lact'.*keep_unknown=true",
        ),
        (edited("sta", lambda t: t.with_columns(died=pl.lit(1))), r"sta\.parquet: unknown variable 'died'"),
        (edited("dyn", lambda t: t.with_columns(weight=pl.lit(70.0))), "'weight' as static: move"),
        (edited("sta", lambda t: t.with_columns(hr=pl.lit(70.0))), "'hr' as not static: move"),
        (edited("dyn", lambda t: t.with_columns(pl.col("hr").cast(str))), "column 'hr' holds text"),
        (edited("outc", lambda t: t.with_columns(pl.col("label").cast(str))), "column 'label' holds text"),
        (edited("dyn", lambda t: t.with_columns(pl.col("stay_id").cast(str))), "column 'stay_id' holds text"),
        (edited("dyn", lambda t: t.with_columns(hr=pl.lit([1.0]))), "column 'hr' holds List"),
        (edited("dyn", lambda t: t.with_columns(stay_id=pl.lit(True))), "'stay_id' holds Boolean"),
        (
            edited("dyn", lambda t: t.with_columns(time=pl.datetime(2020, 1, 1))),
            r"dyn\.parquet: column 'time' holds Datetime.*not a Duration, or hours",
        ),
        (
            edited("dyn", lambda t: t.with_columns(pl.col("time") + timedelta(minutes=30))),
            r"dyn\.parquet: stay 1 has a row at 0\.5 h.*hourly",
        ),
        (
            edited("outc", lambda t: with_rows(t, (1, HOUR, True))),
            r"outc\.parquet: stay 1 has two different labels at 1 h",
        ),
        (
            edited("outc", lambda t: t.with_columns(label=pl.lit(3))),
            "task 'label', stay 1: the label 3.0 .* is not a class from 0 to 1",
        ),
        (
            edited("sta", lambda t: t.with_columns(age=pl.date(2020, 1, 1))),
            r"sta\.parquet: column 'age' holds Date",
        ),
    ],
)
def test_malformed_tables_are_refused(ricu: Ricu, change: Any, message: str, left_behind: Any) -> None:
    ricu.write(change(hourly_tables()))
    with pytest.raises(ValueError, match=message):
        ricu.prepare()
    assert left_behind(ricu.folder) == ["raw"]


def test_blank_and_clashing_names_are_refused(ricu: Ricu) -> None:
    given = hourly_tables()
    ricu.write(given | {"dyn": given["dyn"].rename({"hr": " "})})
    with pytest.raises(ValueError, match=r"dyn\.parquet: unknown variable ' '"):
        ricu.prepare(keep_unknown=True)
    both = {name: given[name].with_columns(x=pl.lit(1.0)) for name in ("dyn", "sta")}
    ricu.write(given | both)
    with pytest.raises(ValueError, match="variable 'x' comes from two columns"):
        ricu.prepare(keep_unknown=True)
    ids = pl.DataFrame({"stay_id": range(60), "free": [f"text {i}" for i in range(60)]})
    ricu.write(given | {"sta": ids})
    with pytest.raises(ValueError, match=r"sta\.parquet: the text column 'free' has 60 different values"):
        ricu.prepare(keep_unknown=True)


@pytest.mark.parametrize("name", ["dyn", "sta", "outc"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_a_truncated_file_is_named(ricu: Ricu, name: str, share: float, left_behind: Any) -> None:
    ricu.write(hourly_tables())
    path = ricu.raw / f"{name}.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=rf"{name}\.parquet cannot be read .*truncated"):
        ricu.prepare()
    assert left_behind(ricu.folder) == ["raw"]


def test_missing_files_and_options_are_named(ricu: Ricu) -> None:
    with pytest.raises(FileNotFoundError, match=r"dyn\.parquet"):
        ricu.prepare()
    with pytest.raises(FileNotFoundError, match=r"no folder nowhere: set data\.source\.raw"):
        prepare_dataset(build_source({"name": "ricu", "raw": "nowhere"}), ricu.folder / "dataset")
    for options, message in [
        ({"task_name": " "}, "task_name is blank"),
        ({"prediction_time": 0.0}, "prediction_time=0.0"),
        ({"task_type": "multiclass"}, "needs the names of its classes"),
        ({"task_type": "regression", "classes": ["a"]}, "has no classes"),
    ]:
        with pytest.raises(ValueError, match=message):
            build_source(ricu.options(**options))


YAIB = {
    "mortality24": ("binary", False),
    "kidney_function": ("regression", False),
    "los": ("regression", True),
    "aki": ("binary", True),
    "sepsis": ("binary", True),
}


@pytest.mark.parametrize("task", YAIB)
def test_every_task_of_yaib_aligns(shared_data: Path, tmp_path: Path, task: str) -> None:
    """Grid and labels, bin by bin, against the raw tables."""
    task_type, per_step = YAIB[task]
    raw = shared_data / "yaib-mimic-demo" / task
    source = {"name": "ricu", "raw": str(raw), "task_name": task, "task_type": task_type}
    config = DataConfig(source=source, dataset_dir=str(tmp_path / task), horizon=169)
    data = StayDataModule(config, task=task)
    data.prepare_data()
    data.setup()
    assert data.task is not None and data.task.per_step == per_step
    batch = data.cut(np.arange(len(data.store)), normalize=False)
    dyn, outc = (pl.read_parquet(raw / f"{name}.parquet") for name in ("dyn", "outc"))
    row = {stay: i for i, stay in enumerate(batch["stay_id"].tolist())}
    assert set(row) == set(outc["stay_id"])
    bins = [
        (row[stay], int(time.total_seconds() // 3600)) for stay, time in dyn.select("stay_id", "time").rows()
    ]
    end = 169 if per_step else 24
    vocabulary = read_vocabulary("icu")
    for name in ("hr", "crea", "urine", "temp"):
        low, high = vocabulary[name].low, vocabulary[name].high
        wanted = np.full(batch["timeseries"].shape[:2], np.nan)
        for (stay, hour), value in zip(bins, dyn[name], strict=True):
            if value is not None and hour < end and low <= value <= high:
                wanted[stay, hour] = value
        column = data.variables.index(name)
        got = np.where(batch["mask"][..., column], batch["timeseries"][..., column], np.nan)
        np.testing.assert_allclose(got, wanted, rtol=1e-6)
    labels = np.full(batch["label"].shape, np.nan)
    for stay, *time, label in outc.rows():
        labels[(row[stay], int(time[0].total_seconds() // 3600)) if per_step else row[stay]] = label
    np.testing.assert_allclose(np.where(batch["label_mask"], batch["label"], np.nan), labels, rtol=1e-6)
