"""The dataset on disk: whole, the one asked for, or an error that says what to do."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from slices.training.data import (
    Chunk,
    DatasetError,
    Part,
    Source,
    StayStore,
    Tally,
    build_source,
    prepare_dataset,
)
from stored import recorded

SMALL = {"name": "synthetic", "n_stays": 20}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return prepare_dataset(build_source(SMALL), tmp_path / "dataset").directory


def test_events_come_back_by_stay_and_time(tmp_path: Path, table_source: Any) -> None:
    stays = [(30, 1, "a", 48.0), (10, 1, "b", 10.0), (20, 2, "b", 48.0)]
    events = [(10, 9.0, 0, 4.0), (30, 2.0, 1, 1.0), (10, 1.0, 0, 3.0), (30, 2.0, 0, 2.0), (10, 9.0, 0, 5.0)]
    store = prepare_dataset(table_source(stays, events), tmp_path / "d")
    assert store.stay_id.tolist() == [30, 10, 20]
    assert store.offsets.tolist() == [0, 2, 5, 5]
    assert store.time.tolist() == [2.0, 2.0, 1.0, 9.0, 9.0]
    assert store.variable.tolist() == [1, 0, 0, 0, 0]
    assert store.value.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert store.stays["set"].to_list() == ["a", "b", "b"]
    assert [variable.name for variable in store.variables] == ["hr", "lactate", "never_measured", "age"]
    assert store.variables == table_source([], []).variables


def test_statics_are_at_0_before_all_other_events(tmp_path: Path, table_source: Any) -> None:
    hr, age = 0, 3
    events = [(1, 0.0, hr, 80.0), (1, 5.0, hr, 90.0), (1, 7.0, age, 64.0)]
    store = prepare_dataset(table_source([(1, 1, "a", 48.0)], events), tmp_path / "dataset")
    assert store.variable.tolist() == [age, hr, hr] and store.time.tolist() == [0.0, 0.0, 5.0]


def test_what_cannot_be_used_is_dropped_and_counted_by_rule_and_set(
    tmp_path: Path, table_source: Any
) -> None:
    stays = [(1, 1, "a", 48.0), (2, 2, "b", 10.0)]
    bad = {
        "unknown_stay": [(9, 1.0, 0, 80.0)],
        "not_finite": [(1, 1.0, 0, float("nan")), (2, 1.0, 0, float("-inf")), (1, 1.0, 0, None)],
        "bad_time": [(1, -0.1, 0, 80.0), (2, 10.5, 0, 80.0), (1, float("nan"), 0, 80.0), (1, None, 0, 80.0)],
        "out_of_range": [(1, 1.0, 0, 301.0), (1, 1.0, 1, -1.0)],
    }
    good = [(1, 48.0, 0, 300.0), (2, 10.0, 1, 0.0)]
    store = prepare_dataset(table_source(stays, [*chain(*bad.values()), *good]), tmp_path / "d")
    assert store.value.tolist() == [300.0, 0.0]
    assert {rule: entry["count"] for rule, entry in store.manifest.drops.items()} == {
        rule: len(rows) for rule, rows in bad.items()
    }
    assert store.manifest.drops["bad_time"]["by_set"] == {"a": 3, "b": 1}


def test_equal_content_has_an_equal_fingerprint(tmp_path: Path) -> None:
    one, same = (prepare_dataset(build_source(SMALL), tmp_path / name).manifest for name in ("one", "same"))
    other = prepare_dataset(build_source(SMALL | {"seed": 1}), tmp_path / "other").manifest
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no dataset at .*nowhere: prepare it first"):
        StayStore(tmp_path / "nowhere")


def truncate(path: Path, drop: int) -> None:
    path.write_bytes(path.read_bytes()[:-drop])


def garble(path: Path) -> None:
    path.write_bytes(b"x" * path.stat().st_size)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "manifest.json").unlink(), "not a whole dataset .manifest.json is missing."),
        (lambda d: (d / "manifest.json").write_text("{"), "manifest.json cannot be read"),
        (lambda d: (d / "manifest.json").write_text("[1]"), "not the manifest of a SLICES dataset"),
        (lambda d: edit(d / "manifest.json", format="other"), "not the manifest of a SLICES dataset"),
        (lambda d: edit(d / "manifest.json", format_version=99), "has format 99, this version reads 2"),
        (lambda d: edit(d / "manifest.json", variables=[{"nom": "x"}]), "manifest.json lacks or misstates"),
        (
            lambda d: edit(d / "manifest.json", variables=[{"name": "x", "aggregate": "average"}]),
            "manifest.json lacks or misstates .*aggregate: unknown value 'average': There are: sum, value",
        ),
        (lambda d: edit(d / "manifest.json", files={}), "lacks or misstates something .*offsets.npy"),
        (lambda d: (d / "value.npy").unlink(), "half written or damaged .value.npy is missing."),
        (lambda d: truncate(d / "value.npy", 4), "value.npy has .* bytes, its manifest says"),
        (lambda d: truncate(d / "stays.parquet", 9), "stays.parquet has .* bytes, its manifest says"),
        (lambda d: garble(d / "time.npy"), "time.npy cannot be read"),
        (lambda d: garble(d / "stays.parquet"), "stays.parquet is damaged .its sha256 is "),
        (
            lambda d: shutil.copy(d / "value.npy", d / "time.npy") and garble(d / "offsets.npy"),
            "offsets.npy cannot",
        ),
    ],
)
def test_damage_is_named_with_a_remedy(damage: Callable[[Path], Any], message: str, dataset: Path) -> None:
    damage(dataset)
    with pytest.raises(
        DatasetError, match=message + ".*(prepare it again with overwrite=true|another data.dataset_dir)"
    ):
        StayStore(dataset)


@pytest.mark.parametrize("change", [lambda offsets: offsets + 5, lambda offsets: offsets[:0]])
def test_arrays_that_do_not_fit_together(change: Callable[[Any], Any], dataset: Path) -> None:
    np.save(dataset / "offsets.npy", change(np.load(dataset / "offsets.npy")))
    recorded(dataset)
    with pytest.raises(DatasetError, match="do not fit together"):
        StayStore(dataset)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"stays": 19}, "stays.parquet has not the 19 rows"),
        ({"stays": -1}, "stays.parquet has -1 rows by its manifest, which no memory"),
        ({"labels": 7}, "labels.parquet has not the 7 rows"),
        (
            {"labels": 10**15},
            "labels.parquet has 1,000,000,000,000,000 rows by its manifest, which no memory",
        ),
    ],
)
def test_tables_are_as_long_as_the_manifest_says(counts: dict[str, int], message: str, dataset: Path) -> None:
    recorded(dataset, **counts)
    with pytest.raises(DatasetError, match=message):
        StayStore(dataset).labels("in_hospital_mortality")


def test_no_more_rows_are_read_than_a_table_claims(dataset: Path) -> None:
    def claim(count: int) -> bytes:  # as three bytes
        return bytes([2 * count & 127 | 128, 2 * count >> 7 & 127 | 128, 2 * count >> 14])

    labels = StayStore(dataset).labels("in_hospital_mortality")[:1]
    long = pl.concat([labels] * 100_000)
    long.write_parquet(dataset / "labels.parquet", row_group_size=10_000)
    path = dataset / "labels.parquet"
    assert path.read_bytes().count(claim(100_000)) == 1
    path.write_bytes(path.read_bytes().replace(claim(100_000), claim(30_000)))
    recorded(dataset, labels=30_000)
    assert len(StayStore(dataset).labels("in_hospital_mortality")) <= 30_001


@pytest.mark.parametrize(
    ("name", "bad", "wanted"),
    [
        ("time.npy", -7.75, r"0 to 3\.40282e\+38"),
        ("variable.npy", 7775, r"0 to 45"),
        ("value.npy", float("nan"), r"-3\.40282e\+38 to 3\.40282e\+38"),
    ],
)
def test_an_error_of_events_says_nothing_of_a_patient(
    name: str, bad: float, wanted: str, dataset: Path
) -> None:
    array = np.load(dataset / name)
    array[3] = bad
    np.save(dataset / name, array)
    message = rf"{name} is damaged \(it holds something that is no number from {wanted}\): prepare"
    with pytest.raises(DatasetError, match=message):
        StayStore(dataset).events_at(torch.arange(9))


def test_other_options_are_named_and_never_silently_used(dataset: Path, left_behind: Any) -> None:
    with pytest.raises(DatasetError, match=r"prepared with seed=0, asked for seed=5.*overwrite=true"):
        prepare_dataset(build_source(SMALL | {"seed": 5}), dataset)
    replaced = prepare_dataset(build_source(SMALL | {"seed": 5}), dataset, overwrite=True)
    assert replaced.manifest.source["options"]["seed"] == 5
    assert left_behind(dataset.parent) == [dataset.name]


def test_a_manifest_from_before_amounts_were_declared_is_read_as_having_none(dataset: Path) -> None:
    plain = json.loads((dataset / "manifest.json").read_text())
    for variable in plain["variables"]:
        del variable["aggregate"]
    edit(dataset / "manifest.json", variables=plain["variables"])
    store = prepare_dataset(build_source(SMALL), dataset)
    assert {variable.aggregate for variable in store.variables} == {"value"}


def test_an_existing_dataset_is_used_as_it_is(dataset: Path) -> None:
    before = (dataset / "manifest.json").stat().st_mtime_ns
    prepare_dataset(build_source(SMALL), dataset)
    assert (dataset / "manifest.json").stat().st_mtime_ns == before


def test_overwriting_deletes_nothing_that_is_not_ours(dataset: Path) -> None:
    (dataset / "thesis.docx").write_text("all of it")
    with pytest.raises(DatasetError, match=r"also holds thesis.docx.*not overwritten"):
        prepare_dataset(build_source(SMALL), dataset, overwrite=True)
    assert (dataset / "thesis.docx").exists()


def test_a_source_that_fails_leaves_nothing_behind(
    tmp_path: Path, table_source: Any, left_behind: Any
) -> None:
    class Failing(table_source):  # type: ignore[misc, valid-type]
        def read(self, part: Part, tally: Tally) -> Iterator[Chunk]:
            yield from super().read(part, tally)
            raise OSError("the disk went away")

    with pytest.raises(OSError, match="the disk went away"):
        prepare_dataset(Failing([(1, 1, "a", 48.0)], []), tmp_path / "d")
    assert left_behind(tmp_path) == []


def test_a_stay_given_twice_is_refused(tmp_path: Path, table_source: Any) -> None:
    with pytest.raises(ValueError, match="gives stay 7 more than once"):
        prepare_dataset(table_source([(7, 1, "a", 48.0), (7, 2, "a", 48.0)], []), tmp_path / "d")


def test_a_source_has_to_say_its_variables_and_tasks() -> None:
    class Untold(Source):
        tasks = ()

        def read(self, part: Part, tally: Tally) -> Iterator[Chunk]:
            yield from ()

    with pytest.raises(TypeError, match=r"Untold .*variables"):
        Untold(None)  # type: ignore[abstract]


def test_processes_that_prepare_at_once_do_no_harm(tmp_path: Path, left_behind: Any) -> None:
    def prepare(_: int) -> str:
        return prepare_dataset(build_source(SMALL), tmp_path / "d").manifest.fingerprint

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(prepare, range(4)))) == 1
    assert left_behind(tmp_path) == ["d"]


def test_a_dataset_that_is_made_again_is_not_read_by_halves(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, check = StayStore(dataset), StayStore._check
    prepare_dataset(build_source(SMALL | {"seed": 1}), dataset.parent / "other")

    def meanwhile(opened: StayStore) -> None:
        shutil.rmtree(dataset)
        os.rename(dataset.parent / "other", dataset)
        check(opened)

    monkeypatch.setattr(StayStore, "_check", meanwhile)
    with pytest.raises(DatasetError, match="made again while it was read"):
        StayStore(dataset)
    monkeypatch.undo()
    with pytest.raises(DatasetError, match="made again while it was read"):
        store.labels("in_hospital_mortality")
    assert len(StayStore(dataset)) == 20


@pytest.mark.slow
def test_several_processes_make_the_same_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slices.training.data.sources.synthetic.PART", 250)
    source = build_source({"name": "synthetic", "n_stays": 500})
    parts = [part.name for part in source.parts()]
    assert parts == ["1-250", "251-500"]
    alone = prepare_dataset(source, tmp_path / "alone").manifest
    together = prepare_dataset(source, tmp_path / "together", jobs=2).manifest
    assert alone.fingerprint == together.fingerprint and alone.drops == together.drops


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_is_no_dataset(tmp_path: Path, table_source: Any, overwrite: bool) -> None:
    (tmp_path / "d").write_text("mine")
    source = table_source([(1, 1, "a", 48.0)], [(1, 1.0, 0, 80.0)])
    with pytest.raises(ValueError, match=r"d is a file.*data\.dataset_dir"):
        prepare_dataset(source, tmp_path / "d", overwrite=overwrite)
    assert (tmp_path / "d").read_text() == "mine"
