"""MEDS datasets: what becomes of codes, stays, splits and label tables, on small datasets written here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slices.training.data import StayStore, build_source, prepare_dataset
from slices.training.data.sources.meds import StayBounds

START = datetime(2150, 1, 1)
SCHEMA = {
    "subject_id": pl.Int64,
    "time": pl.Datetime("us"),
    "code": pl.String,
    "numeric_value": pl.Float32,
    "text_value": pl.String,
}
MAPPING = """
hr: [HR//*]
temp: [TEMP//C, {code: TEMP//F, factor: 0.5, offset: -10}]
tgcs: {sum: [EYES, VERBAL, MOTOR]}
urine: {code: "OUT//*"}
vent_ind: {code: VENT, value: 1}
age: {code: MEDS_BIRTH, value: age}
sex: [{code: SEX//F, value: 0}, {code: SEX//M, value: 1}]
weight: [WEIGHT, {code: POUNDS, factor: 0.5}]
"""


def at(hours: float | None) -> datetime | None:
    return None if hours is None else START + timedelta(hours=hours)


def rows(*given: tuple[int | None, float | None, str | None, float | None]) -> pl.DataFrame:
    """Rows of a MEDS file, times in hours."""
    return pl.DataFrame(
        [(subject, at(hours), code, value, None) for subject, hours, code, value in given],
        SCHEMA,
        orient="row",
    )


def stay(subject: int, start: float, end: float) -> list[tuple[int, float, str, None]]:
    return [(subject, start, "IN//x", None), (subject, end, "OUT_OF//x", None)]


class Meds:
    """A dataset on disk, and what is prepared from it."""

    def __init__(self, folder: Path) -> None:
        self.raw, self.folder = folder / "raw", folder
        self.mapping = folder / "mapping.yaml"
        self.mapping.write_text(MAPPING)
        self.n_prepared = 0

    def write(self, table: pl.DataFrame, file: str = "data/train/0.parquet") -> Path:
        path = self.raw / file
        path.parent.mkdir(parents=True, exist_ok=True)
        table.write_parquet(path)
        return path

    def prepare(self, jobs: int = 1, **options: Any) -> StayStore:
        stays = {"start": "IN//*", "end": "OUT_OF//*"}
        given = {"name": "meds", "raw": str(self.raw), "mapping": str(self.mapping), "stays": stays}
        self.n_prepared += 1
        source = build_source(given | options)
        return prepare_dataset(source, self.folder / f"dataset-{self.n_prepared}", jobs=jobs)


@pytest.fixture
def meds(tmp_path: Path) -> Meds:
    return Meds(tmp_path)


def events(store: StayStore) -> list[tuple[int, float, str, float]]:
    """Stay, hour, variable and value of every event."""
    names = [store.variables[i].name for i in store.variable]
    stays = [int(store.stay_id[i]) for i in range(len(store)) for _ in range(*store.offsets[i : i + 2])]
    return list(zip(stays, store.time.tolist(), names, store.value.tolist(), strict=True))


def drops(store: StayStore) -> dict[str, int]:
    """How often each rule applied, but for stays without a split."""
    return {rule: entry["count"] for rule, entry in store.manifest.drops.items() if rule != "no_split"}


def test_a_shard_or_a_label_that_comes_later_makes_another_dataset(meds: Meds) -> None:
    meds.write(rows(*stay(7, 10, 20)))
    meds.write(labels((7, 15.0, True)), "t.parquet")
    options = {"labels": {"t": {"file": "t.parquet", "task_type": "binary"}}}
    meds.prepare(**options)
    for file, table, place in (
        ("t.parquet", labels(*[(7, 12.0 + i / 9, True) for i in range(50)]), "labels.t"),
        ("data/train/1.parquet", rows(*stay(8, 10, 20)), "raw"),
    ):
        path = meds.write(table, file)
        meds.n_prepared = 0
        with pytest.raises(ValueError, match=rf"data\.source\.{place} was .*overwrite=true"):
            meds.prepare(**options)
        path.unlink()


def test_labels_of_nobody_are_counted_anew_where_an_interrupted_preparation_goes_on(meds: Meds) -> None:
    meds.write(rows(*stay(7, 10, 20)), "data/0.parquet")
    meds.write(rows(*stay(2**62, 10, 20)), "data/1.parquet")
    meds.write(labels((7, 15.0, True), (9, 15.0, True)), "t.parquet")
    options = {"labels": {"t": {"file": "t.parquet", "task_type": "binary"}}}
    with pytest.raises(ValueError, match="leave no room to number"):
        meds.prepare(**options)
    meds.n_prepared = 0
    meds.write(rows(*stay(9, 10, 20)), "data/1.parquet")
    assert "label_of_nobody" not in drops(meds.prepare(**options))


def test_codes_become_variables_in_their_units(meds: Meds) -> None:
    measured = [
        (7, 10.0, "HR//220045//bpm", 80.0),
        (7, 10.5, "TEMP//C", 37.5),
        (7, 11.0, "TEMP//F", 96.0),  # 96 / 2 - 10
        (7, 12.0, "VENT", None),
        (7, 12.5, "OUT//foley", 100.0),
    ]
    meds.write(rows(*stay(7, 10, 20), *measured))
    store = meds.prepare()
    assert store.stays.select("stay_id", "patient_id", "length_hours").row(0) == (7001, 7, 10.0)
    assert events(store) == [
        (7001, 0.0, "hr", 80.0),
        (7001, 0.5, "temp", 37.5),
        (7001, 1.0, "temp", 38.0),
        (7001, 2.0, "vent_ind", 1.0),
        (7001, 2.5, "urine", 100.0),
    ]
    in_order = ["hr", "temp", "tgcs", "urine", "vent_ind", "age", "sex", "weight"]
    assert [variable.name for variable in store.variables] == in_order


def test_a_sum_needs_all_its_terms_at_one_moment(meds: Meds) -> None:
    whole = [(7, 1.0, "EYES", 4.0), (7, 1.0, "VERBAL", 4.0), (7, 1.0, "VERBAL", 5.0), (7, 1.0, "MOTOR", 6.0)]
    partly = [(7, 2.0, "EYES", 4.0), (7, 2.0, "VERBAL", 5.0), (7, 2.1, "MOTOR", 6.0)]
    meds.write(rows(*stay(7, 0, 20), *whole, *partly))
    store = meds.prepare()
    assert events(store) == [(7001, 1.0, "tgcs", 14.5)]
    assert drops(store)["incomplete_sum"] == 2


def test_a_static_variable_has_the_last_value_known_soon_after_the_start(meds: Meds) -> None:
    known = [(7, None, "SEX//M", None), (7, -20 * 24 * 365.25, "MEDS_BIRTH", None)]
    weights = [(7, -5.0, "WEIGHT", 70.0), (7, 0.5, "POUNDS", 160.0), (7, 0.5, "WEIGHT", 81.0)]
    late = [(7, 2.0, "WEIGHT", 90.0), (7, 101.5, "WEIGHT", 95.0)]
    meds.write(rows(*stay(7, 0, 20), *stay(7, 100, 120), *known, *weights, *late))
    store = meds.prepare()
    first, second = (
        {name: value for stay, time, name, value in events(store) if stay == which and time == 0}
        for which in (7001, 7002)
    )
    assert first == {"age": pytest.approx(20), "sex": 1.0, "weight": 81.0}
    assert second == {"age": pytest.approx(20 + 100 / 24 / 365.25), "sex": 1.0, "weight": 90.0}
    assert len(events(store)) == 6
    assert drops(store)["unused_static"] == 3


def test_stays_go_from_a_start_to_the_next_end(meds: Meds) -> None:
    marks = [*stay(7, 0, 10), *stay(7, 10, 15), (7, 20.0, "IN//x", None), *stay(7, 21, 30)]
    marks += [(7, 40.0, "OUT_OF//x", None), (7, 50.0, "IN//x", None), (7, None, "IN//x", None)]
    hours = [-1.0, 0.0, 9.0, 10.0, 15.0, 16.0, 20.5, 21.0, 30.0, 55.0]
    meds.write(rows(*marks, *((7, hour, "HR//x", 60 + hour) for hour in hours)))
    store = meds.prepare()
    assert store.stays["length_hours"].to_list() == [10.0, 5.0, 9.0]
    assert [(stay, time) for stay, time, _, _ in events(store)] == [
        *((7001, 0.0), (7001, 9.0)),
        *((7002, 0.0), (7002, 5.0)),  # 10 h ends the first stay and starts the second
        *((7003, 0.0), (7003, 9.0)),
    ]
    counted = {"start_without_end": 2, "end_without_start": 1, "mark_without_time": 1, "outside_stays": 4}
    assert drops(store) == counted


def test_without_bounds_a_whole_record_is_one_stay(meds: Meds) -> None:
    births = [(7, -9999.0, "MEDS_BIRTH", None), (8, -9999.0, "MEDS_BIRTH", None)]
    meds.write(rows(*births, (7, 5.0, "x", None), (7, 6.0, "HR//x", 80.0), (7, 48.0, "y", None)))
    store = meds.prepare(stays=None)
    assert store.stays.select("stay_id", "length_hours").rows() == [(7001, 43.0)]
    assert (7001, 1.0, "hr", 80.0) in events(store)


def test_subjects_keep_the_splits_of_the_dataset(meds: Meds) -> None:
    meds.write(rows(*stay(1, 0, 9), *stay(2, 0, 9), (1, 3.0, "strange", None)))
    meds.write(rows(*stay(3, 0, 9), (3, 3.0, "strange", None), (3, 4.0, None, 1.0)), "data/b/sub/0.parquet")
    assert meds.prepare().stays["set"].to_list() == ["none"] * 3
    splits = pl.DataFrame({"subject_id": [1, 3, 4], "split": ["train", "held_out", "train"]})
    meds.write(splits, "metadata/subject_splits.parquet")
    store = meds.prepare()
    assert dict(store.stays.select("stay_id", "set").iter_rows()) == {
        1001: "train",
        2001: "none",
        3001: "held_out",
    }
    assert store.manifest.drops["no_split"]["by_set"] == {"none": 1}
    assert store.manifest.drops["unmapped_code"]["by_set"] == {"train": 1, "held_out": 2}


def test_what_cannot_be_used_is_counted_by_rule(meds: Meds) -> None:
    bad = [
        (7, 1.0, "HR//x", None),
        (7, 1.0, "HR//x", float("nan")),
        (7, None, "HR//x", 80.0),
        (7, None, "MEDS_BIRTH", None),
        (None, 1.0, "HR//x", 80.0),
        (7, 2.0, "strange", 1.0),
        (7, 2.0, "TEMP", 37.0),  # no pattern matches it whole
        (9, 2.0, "HR//x", 80.0),  # a subject without a stay
        (7, 3.0, "HR//x", 80.0),
    ]
    meds.write(rows(*stay(7, 0, 9), *bad, *bad[-1:] * 2))
    store = meds.prepare()
    assert events(store) == [(7001, 3.0, "hr", 80.0)]
    assert drops(store) == {
        "no_value": 2,
        "no_time": 2,
        "no_subject": 1,
        "unmapped_code": 2,
        "outside_stays": 1,
        "duplicate_row": 2,
    }


LABELS = {
    "subject_id": pl.Int64,
    "prediction_time": pl.Datetime("us"),
    "boolean_value": pl.Boolean,
    "integer_value": pl.Int64,
    "float_value": pl.Float64,
    "categorical_value": pl.String,
}


def labels(*given: tuple[int, float | None, Any], column: str = "boolean_value") -> pl.DataFrame:
    plain = [{"subject_id": s, "prediction_time": at(hours), column: value} for s, hours, value in given]
    return pl.DataFrame(plain, LABELS)


@pytest.mark.parametrize(
    ("task", "column", "values", "classes"),
    [
        ({"task_type": "binary"}, "boolean_value", [True, False], [1, 0]),
        ({"task_type": "binary"}, "integer_value", [1, 0], [1, 0]),
        ({"task_type": "binary", "classes": ["no", "yes"]}, "categorical_value", ["yes", "no"], [1, 0]),
        (
            {"task_type": "multiclass", "classes": ["a", "b", "c"]},
            "categorical_value",
            ["c", "a"],
            [2, 0],
        ),
        ({"task_type": "multiclass", "classes": ["a", "b", "c"]}, "integer_value", [2, 1], [2, 1]),
        ({"task_type": "regression"}, "float_value", [2.5, -1.0], [2.5, -1.0]),
        ({"task_type": "regression"}, "integer_value", [7, 3], [7, 3]),
    ],
)
def test_labels_of_every_type(meds: Meds, task: Any, column: str, values: list[Any], classes: Any) -> None:
    meds.write(rows(*stay(7, 10, 40), *stay(8, 0, 30)))
    meds.write(labels((7, 34.0, values[0]), (8, 24.0, values[1]), column=column), "tasks/a b c.parquet")
    store = meds.prepare(labels={"t": {"file": "tasks/a b c.parquet"} | task})
    found = store.labels("t").select("stay_id", "prediction_time", "column", "value").rows()
    assert found == [(7001, 24.0, 0, classes[0]), (8001, 24.0, 0, classes[1])]
    assert store.manifest.tasks["t"].task_type == task["task_type"]


def test_labels_that_belong_to_no_stay_are_counted(meds: Meds) -> None:
    meds.write(rows(*stay(7, 10, 40), *stay(7, 50, 60)))
    meds.write(rows(*stay(8, 10, 40)), "data/train/1.parquet")
    kept = [(7, 40.0, True), (8, 11.0, False)]
    early = [(8, 10.5, True)]  # when what is known soon of the statics is not all known yet
    lost = [(7, 5.0, True), (7, 45.0, True), (9, 20.0, True), (8, 20.0, None), (8, None, True)]
    meds.write(labels(*kept, *kept, *early, *lost), "tasks/t/train/0.parquet")
    meds.write(labels((7, 55.0, True)), "tasks/t/1.parquet")
    folder = {"file": str(meds.raw / "tasks" / "t"), "task_type": "binary", "classes": ["alive", "dead"]}
    store = meds.prepare(labels={"t": folder})
    assert store.labels("t").select("stay_id", "prediction_time", "value").rows() == [
        *((7001, 30.0, 1.0), (7002, 5.0, 1.0)),
        (8001, 1.0, 0.0),
    ]
    assert drops(store) == {
        "label_too_early": 1,
        "label_outside_stays": 2,
        "label_of_nobody": 1,
        "label_without_value": 1,
        "label_without_time": 1,
        "duplicate_label": 2,
    }


RECORD = rows(
    *(*stay(7, 10, 40), *stay(9, 0, 5), (7, None, "SEX//F", None), (7, 5.0, "WEIGHT", 70.0)),
    *((7, 11.0, "HR//x", 80.0), (7, 11.0, "HR//y", 82.0), (7, 12.0, "HR//x", 81.0), (9, 1.0, "HR//x", 90.0)),
    *((7, 11.0, "EYES", 4.0), (7, 11.0, "VERBAL", 5.0), (7, 11.0, "MOTOR", 6.0)),
)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.sample(fraction=1, shuffle=True, seed=1),
        lambda table: table.with_columns(pl.col("time").dt.cast_time_unit("ms")),
        lambda table: table.with_columns(pl.col("time").dt.cast_time_unit("ns")),
        lambda table: table.with_columns(pl.col("time").dt.replace_time_zone("UTC")),
        lambda table: table.with_columns(  # clocks go forward in hour 13
            (pl.col("time") - (START - datetime(2020, 3, 28, 12)))
            .dt.replace_time_zone("UTC")
            .dt.convert_time_zone("Europe/Berlin")
        ),
        lambda table: table.with_columns(pl.col("code").cast(pl.Categorical)),
        lambda table: table.with_columns(pl.col("numeric_value").cast(pl.Int64)),
        lambda table: table.cast({"subject_id": pl.UInt32}),
        lambda table: table.select("code", "numeric_value", "time", "subject_id"),
        lambda table: pl.concat([table, table]).unique(),
    ],
)
def test_the_form_of_a_file_does_not_matter(meds: Meds, change: Callable[[pl.DataFrame], Any]) -> None:
    meds.write(RECORD)
    plain = meds.prepare().manifest
    meds.write(change(RECORD))
    assert meds.prepare().manifest.fingerprint == plain.fingerprint
    assert plain.counts["events"] == 7


def test_a_column_without_any_value_may_have_no_type(meds: Meds) -> None:
    meds.write(rows(*stay(7, 0, 9), (7, 1.0, "VENT", None)).with_columns(numeric_value=None))
    meds.write(labels((7, 5.0, True)).with_columns(integer_value=None), "tasks/t.parquet")
    store = meds.prepare(labels={"t": {"file": "tasks/t.parquet", "task_type": "binary"}})
    assert events(store) == [(7001, 1.0, "vent_ind", 1.0)]
    assert store.labels("t")["value"].to_list() == [1.0]


def test_portions_and_processes_make_the_same_dataset(meds: Meds, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [RECORD.with_columns(pl.col("subject_id") + 10 * i) for i in range(3)]
    for i, table in enumerate(files):
        meds.write(table, f"data/train/{i}.parquet")
    apart = meds.prepare(jobs=2)
    monkeypatch.setattr("slices.training.data.sources.meds.PORTION", 1)
    assert meds.prepare().manifest.fingerprint == apart.manifest.fingerprint
    for i in range(3):
        (meds.raw / f"data/train/{i}.parquet").unlink()
    meds.write(pl.concat(files), "data/all.parquet")
    assert events(meds.prepare()) == events(apart)


def test_a_time_zone_in_some_files_only_is_refused(meds: Meds) -> None:
    meds.write(RECORD)
    zoned = labels((7, 20.0, True)).with_columns(pl.col("prediction_time").dt.replace_time_zone("UTC"))
    meds.write(zoned, "tasks/t.parquet")
    with pytest.raises(ValueError, match=r"t\.parquet has times with a time zone, .*0\.parquet without"):
        meds.prepare(labels={"t": {"file": "tasks/t.parquet", "task_type": "binary"}})


def damaged(table: pl.DataFrame, path: Path, change: Callable[[bytes], bytes]) -> None:
    table.write_parquet(path)
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            lambda path: RECORD.drop("code").write_parquet(path),
            r"0\.parquet: unknown column 'code': There are: .*subject_id.*MEDS",
        ),
        (
            lambda path: RECORD.drop("numeric_value").write_parquet(path),
            r"0\.parquet: unknown column 'numeric_value'",
        ),
        (
            lambda path: RECORD.with_columns(code=pl.lit(3)).write_parquet(path),
            r"0\.parquet: column 'code' holds Int32, not text: convert it",
        ),
        (
            lambda path: RECORD.cast({"numeric_value": pl.String}).write_parquet(path),
            r"0\.parquet: column 'numeric_value' holds String, not numbers: convert it",
        ),
        (
            lambda path: RECORD.cast({"time": pl.String}).write_parquet(path),
            r"0\.parquet: column 'time' holds String, not timestamps: convert it",
        ),
        (
            lambda path: RECORD.cast({"subject_id": pl.Float64}).write_parquet(path),
            r"0\.parquet: column 'subject_id' holds Float64, not whole numbers: convert it",
        ),
        (lambda path: damaged(RECORD, path, lambda raw: raw[:-20]), r"0\.parquet cannot be read .*truncated"),
        (lambda path: damaged(RECORD, path, lambda raw: raw[:50]), r"0\.parquet cannot be read .*truncated"),
        (lambda path: damaged(RECORD, path, lambda raw: b""), r"0\.parquet cannot be read .*truncated"),
        (
            lambda path: damaged(RECORD, path, lambda raw: raw[:4] + b"\xff" * 300 + raw[304:]),
            r"0\.parquet cannot be read .*truncated",
        ),
        (lambda path: path.write_text("subject_id,time"), r"0\.parquet cannot be read .*truncated"),
        (lambda path: None, r"has no data/\*\*/\*\.parquet: set data\.source\.raw"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(meds: Meds, write: Callable[[Path], Any], message: str) -> None:
    path = meds.raw / "data" / "0.parquet"
    path.parent.mkdir(parents=True)
    write(path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        meds.prepare()
    assert not (meds.folder / "dataset-1").exists()


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (labels((7, 20.0, True)).drop("prediction_time"), {}, r"t\.parquet: unknown column .predict"),
        (
            labels((7, 20.0, True)).drop("boolean_value", "integer_value", "categorical_value"),
            {},
            "has none of",
        ),
        (
            labels((7, 20.0, 3), column="integer_value"),
            {},
            "'t', stay 7001: the label 3.* not a class from 0 to",
        ),
        (
            labels((7, 20.0, "bb"), column="categorical_value"),
            {"task_type": "multiclass", "classes": ["a", "b"]},
            r"t\.parquet: categorical_value: unknown class 'bb': did you mean 'b'",
        ),
        (labels((7, 20.0, True), (7, 20.0, False)), {}, "stay 7001: the label .* is given twice"),
        (labels((7, 20.0, True)), {"file": "tasks/u.parquet"}, r"no label table at .*u\.parquet"),
        (labels((7, 20.0, True)), {"task_type": "multiclass"}, "a multiclass task needs the names of its cl"),
        (labels((7, 20.0, True)), {"task_type": "multilabel"}, r"labels\.t\.task_type.*'multilabel'"),
        (labels((7, 20.0, True)), {"files": "x"}, r"labels\.t: unknown option 'files': did you mean 'file'"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(
    meds: Meds, table: pl.DataFrame, options: dict[str, Any], message: str
) -> None:
    meds.write(RECORD)
    meds.write(table, "tasks/t.parquet")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        meds.prepare(labels={"t": {"file": "tasks/t.parquet", "task_type": "binary"} | options})


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("heart_rate: HR//*", "mapping .*: unknown variable 'heart_rate'.*There are: age, alb"),
        ("hrr: HR//*", r"mapping .*: unknown variable 'hrr': did you mean 'hr'.*vocabulary icu"),
        ("hr: HR//*\nresp: HR//x", r"the code 'HR//x' is claimed by hr \(HR//\*\) and resp \(HR//x\)"),
        ("hr: HR//[a-x]\nresp: '?R//x'", r"the code 'HR//x' is claimed by hr .* and resp"),
        ("hr: [HR//*, HR//*]", r"'HR//\*' is claimed by hr .* and hr"),
        ("hr: []", "hr: no code is given"),
        ("hr: [3]", "hr: 3 must be a code, or a mapping"),
        ("hr: {code: HR, faktor: 2}", "unknown option 'faktor': did you mean 'factor'"),
        ("hr: {factor: 2}", "hr: code is missing"),
        ("hr: {code: HR, factor: 2, value: 1}", "give value, or factor and offset, not both"),
        ("hr: {code: HR, value: years}", r"hr\.value: expected"),
        ("hr: {code: MEDS_BIRTH, value: age}", "hr: only a static variable can have the value 'age'"),
        ("age: {sum: [A, B]}", "age: the variable is static"),
        ("hr: [", "cannot be read as YAML"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused(meds: Meds, mapping: str, message: str) -> None:
    meds.write(RECORD)
    meds.mapping.write_text(mapping)
    with pytest.raises((ValueError, TypeError), match=message):
        meds.prepare()


def test_a_changed_mapping_is_noticed(meds: Meds) -> None:
    meds.write(RECORD)
    meds.prepare()
    meds.mapping.write_text(MAPPING.replace("factor: 0.5}", "factor: 0.45}"))
    meds.n_prepared = 0
    with pytest.raises(ValueError, match=r"is not the dataset asked for \(mapped: prepared with"):
        meds.prepare()


def test_a_subject_in_two_files_is_refused(meds: Meds) -> None:
    meds.write(RECORD)
    meds.write(RECORD.filter(pl.col("subject_id") == 9), "data/train/1.parquet")
    with pytest.raises(ValueError, match=r"subject 9 lies in .*0\.parquet and in .*1\.parquet"):
        meds.prepare()


def test_a_subject_in_two_splits_is_refused(meds: Meds) -> None:
    meds.write(RECORD)
    meds.write(pl.DataFrame({"subject_id": [7, 7], "split": ["a", "b"]}), "metadata/subject_splits.parquet")
    with pytest.raises(ValueError, match="subject 7 is in the splits a and b"):
        meds.prepare()


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ([mark for i in range(1000) for mark in stay(7, i, i + 0.5)], "subject 7 has more than 999 stays"),
        (stay(2**62, 0, 5), "subject 4611686018427387904: numbers beyond 9223372036854774 leave no room"),
        ([(7, 1.0, "HR//x", 80.0)], "the source 'meds' holds no stay"),
    ],
)
def test_stays_that_cannot_be_numbered_are_refused(meds: Meds, marks: Any, message: str) -> None:
    meds.write(rows(*marks))
    with pytest.raises(ValueError, match=message):
        meds.prepare()


def test_a_code_that_starts_and_ends_stays_is_refused(meds: Meds) -> None:
    meds.write(RECORD)
    with pytest.raises(ValueError, match=r"0\.parquet: the code 'IN//x' both starts and ends a stay"):
        meds.prepare(stays=StayBounds(start="IN//*", end="*IN//*"))


Marks = st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(0, 12), st.booleans()), max_size=14)
Readings = st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(0, 12), st.integers(20, 99)), max_size=14)


def obvious(marks: Any, readings: Any) -> tuple[list[Any], list[Any]]:
    """Stays and events, by loops."""
    stays, found = [], []
    for subject in (1, 2):
        own = sorted((hour, is_start) for who, hour, is_start in marks if who == subject)
        pairs = [(here[0], there[0]) for here, there in pairwise(own) if here[1] and not there[1]]
        for ordinal, (start, end) in enumerate(pairs, 1):
            stays.append((subject * 1000 + ordinal, float(end - start)))
            last = ordinal == len(pairs) or pairs[ordinal][0] > end
            for who, hour, value in set(readings):
                if who == subject and start <= hour and (hour <= end if last else hour < end):
                    found.append((subject * 1000 + ordinal, float(hour - start), "hr", float(value)))
    return stays, sorted(found)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(marks=Marks, readings=Readings)
def test_stays_and_events_are_those_that_loops_find(meds: Meds, marks: Any, readings: Any) -> None:
    stays, found = obvious(marks, readings)
    named = [(who, float(hour), "IN//x" if is_start else "OUT_OF//x", None) for who, hour, is_start in marks]
    meds.write(rows(*((who, float(hour), "HR//x", float(value)) for who, hour, value in readings), *named))
    if not stays:
        with pytest.raises(ValueError, match="holds no stay"):
            meds.prepare()
        return
    store = meds.prepare()
    assert store.stays.select("stay_id", "length_hours").rows() == stays
    assert sorted(events(store)) == found
    kept = len({(who, hour, value) for who, hour, value in readings})
    assert drops(store).get("outside_stays", 0) == kept - len(found)
    assert drops(store).get("duplicate_row", 0) == len(readings) - kept
