"""The files of MEDS datasets: forms that do not matter, and those that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from meds_raw import RECORD, START, Meds, labels, rows, stay
from stored import events


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


@pytest.mark.slow
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
