"""Datasets damaged anywhere are refused by an error of ours, or give batches that can be trained on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, note
from hypothesis import strategies as st

from fuzzing import examples, is_ours
from quick import data_for
from slices.training.data import build_source, prepare_dataset
from slices.training.data.store import ARRAYS, MANIFEST, TABLES
from stored import recorded

SOURCE = {"name": "synthetic", "n_stays": 40}
HOW: list[tuple[str | None, bool | None, float | str]] = [  # task, one label a step, resolution
    (None, None, 4.0),
    (None, None, "timestamps"),
    (None, None, "observations"),
    ("in_hospital_mortality", None, "timestamps"),
    ("deterioration", True, 4.0),
    ("deterioration", False, 4.0),
    ("organ_failure", None, 4.0),
    ("length_of_stay", None, "observations"),
    ("time_to_death", None, 4.0),
]
Damage = Callable[[Path, Path], None]  # of a dataset, with another one beside it
WHERE = st.floats(0, 1, exclude_max=True)
ODD = [
    None,
    True,
    -1,
    0,
    10**6,
    10**30,
    0.5,
    float("inf"),
    float("nan"),
    "",
    "x",
    "ü☃",
    [],
    ["x"],
    {},
    {"x": 1},
]
BAD_NUMBERS = [-1.0, 0.0, 37.0, 1e4, 1e30, float("nan"), float("inf"), -float("inf")]
BAD_IDS = [-1, 0, 37, 500, 32767, 2**40]
DTYPES = ["f8", "i4", "i1", "f2", "?", "c16", "<U3", ">f4", ">i8"]


@st.composite
def of_bytes(draw: st.DrawFn) -> Damage:
    """A file cut short, overwritten in some places, missing, or another one in its place."""
    name = draw(st.sampled_from([*ARRAYS, *TABLES, MANIFEST]))
    kind = draw(st.sampled_from(["cut", "bytes", "head", "missing", "folder", "swapped", "foreign"]))
    places = draw(st.lists(st.tuples(WHERE, st.integers(0, 255)), min_size=1, max_size=8))
    other, agrees = draw(st.sampled_from([*ARRAYS, *TABLES])), draw(st.booleans()) and name != MANIFEST

    def damage(folder: Path, foreign: Path) -> None:
        note(f"{name}: {kind}")
        path = folder / name
        content = bytearray(path.read_bytes())
        if kind == "cut":
            content = content[: int(places[0][0] * len(content))]
        for where, byte in places if kind in ("bytes", "head") else ():
            content[int(where * min(len(content), 128 if kind == "head" else len(content)))] = byte
        if kind in ("swapped", "foreign"):
            content = bytearray((folder / other if kind == "swapped" else foreign / name).read_bytes())
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind != "missing":
            path.write_bytes(content)
            if agrees:
                recorded(folder)

    return damage


@st.composite
def of_arrays(draw: st.DrawFn) -> Damage:
    """Numbers that cannot be, in another order, of another type or shape."""
    name = draw(st.sampled_from(list(ARRAYS)))
    kind = draw(st.sampled_from(["numbers", "numbers", "type", "shape", "order", "short", "all"]))
    places = draw(st.lists(WHERE, min_size=1, max_size=5))
    number = draw(st.sampled_from(BAD_NUMBERS if np.dtype(ARRAYS[name]).kind == "f" else BAD_IDS))
    dtype = draw(st.sampled_from(DTYPES))

    def damage(folder: Path, foreign: Path) -> None:
        note(f"{name}: {kind}, {number}")
        array = np.load(folder / name)
        bad = np.asarray([number]).astype(array.dtype)[0]
        if kind == "numbers":
            array[[int(where * len(array)) for where in places]] = bad
        array = {
            "type": lambda: array.astype(dtype),
            "shape": lambda: array[:, None],
            "order": lambda: array[::-1].copy(),
            "short": lambda: array[:-1],
            "all": lambda: np.full_like(array, bad),
        }.get(kind, lambda: array)()
        np.save(folder / name, array)
        recorded(folder)

    return damage


BAD_CELLS: dict[str, list[Any]] = {
    "stay_id": [None, -1, 10**12, 2],
    "patient_id": [None, -1, 7],
    "set": [None, "", "z"],
    "length_hours": [None, -1.0, 0.0, 1e-9, 1e30, float("nan"), float("inf")],
    "task": [None, "", "z"],
    "prediction_time": [None, -1.0, 0.3, 1e9, float("nan"), float("inf")],
    "column": [None, -1, 5, 100],
    "value": [None, 7.0, 0.5, -1.0, 1e30, float("nan"), float("inf")],
}


@st.composite
def of_tables(draw: st.DrawFn) -> Damage:
    """Cells that cannot be, rows twice or gone, other columns."""
    name = draw(st.sampled_from(list(TABLES)))
    column = draw(st.sampled_from(TABLES[name].names()))
    cell, every = draw(st.sampled_from(BAD_CELLS[column])), draw(st.integers(1, 30))
    kind = draw(
        st.sampled_from(["cells", "cells", "cells", "drop", "twice", "text", "more", "none", "named"])
    )

    def damage(folder: Path, foreign: Path) -> None:
        note(f"{name}: {kind}, {column} {cell} in one of {every} rows")
        table = pl.read_parquet(folder / name)
        of = pl.col(column)
        bad, rows = pl.lit(cell, dtype=table.schema[column]), pl.int_range(pl.len()) % every == 0
        changed = {
            "cells": lambda: table.with_columns(pl.when(rows).then(bad).otherwise(of).alias(column)),
            "drop": lambda: table.drop(column),
            "twice": lambda: pl.concat([table, table.head(every)]),
            "text": lambda: table.with_columns(of.cast(pl.String)),
            "more": lambda: table.with_columns(more=1),
            "none": table.clear,
            "named": lambda: table.rename({column: "z"}),
        }[kind]()
        changed.write_parquet(folder / name)
        recorded(folder, **{Path(name).stem: len(changed)})

    return damage


@st.composite
def of_manifest(draw: st.DrawFn) -> Damage:
    """An entry replaced, gone, misspelt or repeated."""
    steps, depth = draw(st.lists(WHERE, min_size=4, max_size=4)), draw(st.integers(1, 4))
    kind = draw(st.sampled_from(["replaced", "replaced", "gone", "misspelt", "again"]))
    odd = draw(st.sampled_from(ODD))

    def damage(folder: Path, foreign: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_text())
        inside, key = manifest, ""
        for where in steps[:depth]:
            below = inside[key] if key != "" else inside
            if not isinstance(below, dict | list) or not below:
                break
            inside = below
            keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
            key = keys[int(where * len(keys))]
        note(f"{MANIFEST}: {kind}, {key} {odd}")
        if kind == "replaced":
            inside[key] = odd
        elif kind == "again" and isinstance(inside, list):
            inside.append(inside[key])
        else:
            was = inside.pop(key)
            if kind == "misspelt" and isinstance(inside, dict):
                inside[f"{key}x"] = was
        (folder / MANIFEST).write_text(json.dumps(manifest))

    return damage


DAMAGES = st.one_of(of_bytes(), of_arrays(), of_tables(), of_manifest())


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dataset, and another one."""
    folder = tmp_path_factory.mktemp("fuzzed")
    for name, seed in (("good", 0), ("foreign", 1)):
        prepare_dataset(build_source(SOURCE | {"seed": seed}), folder / name)
    return folder / "good", folder / "foreign"


def check_batches(folder: Path, task: str | None, per_step: bool | None, resolution: float | str) -> None:
    """Every batch of every split is what a model can take."""
    section = {"source": SOURCE, "dataset_dir": str(folder), "resolution": resolution, "batch_size": 8}
    data = data_for(section, task, per_step=per_step)
    data.setup()
    for split in ("train", "val", "test"):
        for batch in data.loader(split):
            observed = batch["valid" if resolution == "observations" else "mask"]
            values = batch["value" if resolution == "observations" else "timeseries"]
            assert observed.dtype == torch.bool and bool(values.isfinite().all())
            assert not bool(values[~observed].any())
            times = batch["time" if resolution == "observations" else "times"]
            assert bool((times >= 0).all()) and bool(times.isfinite().all())
            assert all(not batch[key].is_floating_point() for key in ("stay_id", "patient_id"))
            assert task is None or bool(batch["label"].isfinite().all())


def read_or_refused(damage: Damage, how: Any, datasets: tuple[Path, Path]) -> None:
    folder = datasets[0].with_name("damaged")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(datasets[0], folder)
    damage(folder, datasets[1])
    try:
        check_batches(folder, *how)
    except (ValueError, FileNotFoundError) as error:
        assert is_ours(error), error


@examples(40)
@given(DAMAGES, st.sampled_from(HOW))
def test_a_damaged_dataset_is_read_or_refused(datasets: tuple[Path, Path], damage: Damage, how: Any) -> None:
    read_or_refused(damage, how, datasets)


@pytest.mark.slow  # two minutes
@pytest.mark.filterwarnings("ignore")
@examples(2000)
@given(DAMAGES, st.sampled_from(HOW))
def test_many_damaged_datasets_are_read_or_refused(
    datasets: tuple[Path, Path], damage: Damage, how: Any
) -> None:
    read_or_refused(damage, how, datasets)
