from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slices.training.data import TaskInfo, prepare_dataset
from slices.training.data.labels import label_subset

BINARY = TaskInfo(name="died", task_type="binary", classes=("no", "yes"))
HOURLY = TaskInfo(name="unwell", task_type="binary", classes=("no", "yes"), per_step=True)
SEVERAL = TaskInfo(name="failures", task_type="multilabel", classes=("kidney", "liver", "lung"))
DAYS = TaskInfo(name="days", task_type="regression")
CLASSES = TaskInfo(name="stage", task_type="multiclass", classes=("one", "two"))


def subset(label: np.ndarray, task: TaskInfo, ids: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    return label_subset(ids, label, np.ones(label.shape, dtype=bool), task, fraction, seed)


@pytest.mark.parametrize(
    ("row", "task", "message"),
    [
        (("died", 2, 48.0, 0, math.nan), BINARY, "task 'died', stay 2: its label is not a finite number"),
        (("days", 2, 48.0, 0, math.inf), DAYS, "task 'days', stay 2: .*not a finite number"),
        (("died", 2, 48.0, 0, 2.0), BINARY, "task 'died', stay 2: its label is not a class from 0 to 1"),
        (("died", 2, 48.0, 0, 0.5), BINARY, "stay 2: .*not a class"),
        (("failures", 2, 48.0, 3, 1.0), SEVERAL, "stay 2: .*column over 2"),
        (("died", 2, math.nan, 0, 1.0), BINARY, "stay 2: .*no prediction time"),
        (("died", 1, 48.0, 0, 1.0), BINARY, "stay 1: .*given twice"),
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


@pytest.mark.parametrize("task", [BINARY, SEVERAL, DAYS], ids=lambda task: task.task_type)
@pytest.mark.parametrize("seed", range(5))
def test_stays_without_a_label_take_nobodys_place(task: TaskInfo, seed: int) -> None:
    """As with several tasks, where a sample may have a label of another alone."""
    generator = np.random.default_rng(seed)
    shape = (500, 3) if task is SEVERAL else (500,)
    label = (generator.random(shape) < 0.3).astype(float)
    known = np.zeros(shape, dtype=bool)
    known[:40] = True
    chosen = label_subset(np.arange(500), label, known, task, 0.05, seed)
    labelled = chosen[chosen < 40]
    alone = subset(label[:40], task, np.arange(40), 0.05, seed)
    assert set(labelled) == set(alone)
    if task is BINARY:
        assert set(label[labelled]) == {0.0, 1.0}


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
    ids = rng.permutation(10 * n)[:n]
    subsets = [set(subset(label, task, ids, fraction, seed)) for fraction in (*fractions, 1.0)]
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
    draws = [subset(label, BINARY, np.arange(2000), 0.05, seed) for seed in range(3)]
    assert all(len(draw) == 100 and label[draw].sum() == 10 for draw in draws)
    assert len({tuple(draw) for draw in draws}) == 3
    days = np.arange(1000.0)
    tenth = subset(days, DAYS, np.arange(1000), 0.1, 0)
    assert np.bincount((days[tenth] // 100).astype(int), minlength=10).tolist() == [10] * 10
