from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slices.training.data import TaskInfo, prepare_dataset
from slices.training.data.labels import TaskLabels, label_subset, task_labels

BINARY = TaskInfo(name="died", task_type="binary", classes=("no", "yes"))
HOURLY = TaskInfo(name="unwell", task_type="binary", classes=("no", "yes"), per_step=True)
SEVERAL = TaskInfo(name="failures", task_type="multilabel", classes=("kidney", "liver", "lung"))
DAYS = TaskInfo(name="days", task_type="regression")
CLASSES = TaskInfo(name="stage", task_type="multiclass", classes=("one", "two"))


def labels_of(label: np.ndarray) -> TaskLabels:
    return TaskLabels(label, np.ones(label.shape, dtype=bool), np.full(len(label), 48.0, dtype=np.float32))


def test_labels_are_laid_out_by_stay_and_step(
    tmp_path: Path, table_source: Any, stays_of_48_hours: Any
) -> None:
    rows = [
        ("died", 3, 48.0, 0, 1.0),
        ("died", 1, 24.0, 0, 0.0),
        ("unwell", 2, 1.0, 0, 1.0),
        ("unwell", 2, 48.0, 0, 1.0),
        ("unwell", 2, 4.5, 0, 1.0),
        ("failures", 1, 24.0, 2, 1.0),
        ("failures", 1, 24.0, 0, 0.0),
    ]
    store = prepare_dataset(
        table_source(stays_of_48_hours(3), [], rows, (BINARY, HOURLY, SEVERAL)), tmp_path / "d"
    )
    died = task_labels(store, "died", n_steps=48, resolution=1.0)
    assert died.label.tolist() == [0, 0, 1] and died.mask.tolist() == [True, False, True]
    assert died.until.tolist() == [24.0, math.inf, 48.0]
    unwell = task_labels(store, "unwell", n_steps=48, resolution=1.0)
    assert np.argwhere(unwell.mask).tolist() == [[1, 0], [1, 47]]  # 4.5 hours is not the end of a bin
    assert unwell.label.shape == (3, 48) and unwell.labelled.tolist() == [False, True, False]
    halves = task_labels(store, "unwell", n_steps=96, resolution=0.5)
    assert np.argwhere(halves.mask).tolist() == [[1, 1], [1, 8], [1, 95]]
    failures = task_labels(store, "failures", n_steps=48, resolution=1.0)
    assert failures.label.dtype == np.float32
    assert failures.mask.tolist() == [[True, False, True], [False] * 3, [False] * 3]
    assert failures.label[0].tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("row", "task", "message"),
    [
        (("died", 2, 48.0, 0, math.nan), BINARY, "task 'died', stay 2: the label nan .*not a finite number"),
        (("days", 2, 48.0, 0, math.inf), DAYS, "task 'days', stay 2: .*not a finite number"),
        (("died", 2, 48.0, 0, 2.0), BINARY, "task 'died', stay 2: the label 2.0 .*not a class from 0 to 1"),
        (("died", 2, 48.0, 0, 0.5), BINARY, "stay 2: .*not a class"),
        (("failures", 2, 48.0, 3, 1.0), SEVERAL, "stay 2: .*column over 2"),
        (("died", 2, math.nan, 0, 1.0), BINARY, "stay 2: .*no prediction time"),
        (("died", 1, 48.0, 0, 1.0), BINARY, "stay 1: .*given twice"),
        (("died", 1, 24.0, 0, 1.0), BINARY, "stay 1: .*other prediction times"),
        (("died", 77, 48.0, 0, 1.0), BINARY, "labels stay 77, which it does not have"),
        (("dead", 2, 48.0, 0, 1.0), BINARY, "does not declare: 'dead'"),
    ],
)
def test_a_label_that_cannot_be_one_is_named(
    row: Any,
    task: TaskInfo,
    message: str,
    tmp_path: Path,
    table_source: Any,
    stays_of_48_hours: Any,
    left_behind: Any,
) -> None:
    rows = [("died", 1, 48.0, 0, 1.0), row]
    source = table_source(
        stays_of_48_hours(3), [], rows, tuple({BINARY.name: BINARY, task.name: task}.values())
    )
    with pytest.raises(ValueError, match=message):
        prepare_dataset(source, tmp_path / "d")
    assert left_behind(tmp_path) == []  # nothing half written


def test_hourly_labels_need_a_grid_and_tasks_have_names(
    tmp_path: Path, table_source: Any, stays_of_48_hours: Any
) -> None:
    store = prepare_dataset(table_source(stays_of_48_hours(1), [], [], (HOURLY,)), tmp_path / "d")
    with pytest.raises(ValueError, match=r"one label a time step: data.resolution=timestamps"):
        task_labels(store, "unwell", n_steps=None, resolution=None)
    with pytest.raises(ValueError, match="unknown task 'unwel': did you mean 'unwell'"):
        task_labels(store, "unwel", n_steps=48, resolution=1.0)


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(5, 300),
    task=st.sampled_from([BINARY, CLASSES, SEVERAL, DAYS, HOURLY]),
    seed=st.integers(0, 100),
    fractions=st.lists(st.floats(0.001, 1), min_size=3, max_size=3).map(sorted),
)
def test_fractions_are_nested_and_keep_a_positive(
    n: int, task: TaskInfo, seed: int, fractions: list[float]
) -> None:
    rng = np.random.default_rng(seed)
    shape = {"failures": (n, 3), "unwell": (n, 12)}.get(task.name, (n,))
    label = rng.lognormal(size=shape) if task is DAYS else (rng.random(shape) < 0.05).astype(np.int64)
    labels = labels_of(label)
    ids = rng.permutation(10 * n)[:n]
    subsets = [set(label_subset(labels, task, ids, fraction, seed)) for fraction in (*fractions, 1.0)]
    assert subsets[0] <= subsets[1] <= subsets[2] <= subsets[3] == set(range(n))
    smallest = sorted(subsets[0])
    assert smallest
    if task is not DAYS:  # where anything is positive anywhere, it is in the smallest fraction too
        some = (
            label.reshape(n, -1, 3).any(axis=1)
            if task is SEVERAL
            else label.reshape(n, -1).max(axis=1)[:, None]
        )
        assert (some[smallest].any(axis=0) == some.any(axis=0)).all()


def test_fractions_are_stratified_and_follow_the_seed() -> None:
    label = (np.arange(2000) % 10 == 0).astype(np.int64)
    draws = [label_subset(labels_of(label), BINARY, np.arange(2000), 0.05, seed) for seed in range(3)]
    assert all(len(draw) == 100 and label[draw].sum() == 10 for draw in draws)
    assert len({tuple(draw) for draw in draws}) == 3
    days = np.arange(1000.0)
    tenth = label_subset(labels_of(days), DAYS, np.arange(1000), 0.1, 0)
    assert np.bincount((days[tenth] // 100).astype(int), minlength=10).tolist() == [10] * 10
