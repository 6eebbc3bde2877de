from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slices.training.data.splits import SplitConfig, refuse_empty, split_stays, uniform_hash

PATIENTS = np.arange(4000) * 7 + 3
ONE_SET = ["a"] * len(PATIENTS)


def sides(patients: np.ndarray, sets: list[str], config: SplitConfig) -> dict[int, str]:
    splits = split_stays(patients, sets, config)
    return {int(patients[i]): name for name, stays in splits.items() for i in stays}


def splitmix64(x: int) -> int:
    """Steele, Lea & Flood 2014, in plain integers."""
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


@given(st.integers(-(2**62), 2**62), st.integers(0, 2**31), st.integers(0, 3))
def test_the_hash_is_splitmix64(patient: int, seed: int, stream: int) -> None:
    state = splitmix64((seed + stream * 0x9E3779B97F4A7C15) % 2**64)
    expected = (splitmix64((patient % 2**64) ^ state) >> 11) / 2**53
    assert uniform_hash(np.array([patient]), seed, stream)[0] == expected


def test_fractions_are_about_right_and_every_stay_is_on_one_side() -> None:
    splits = split_stays(PATIENTS, ONE_SET, SplitConfig(val_fraction=0.2, test_fraction=0.25))
    everyone = np.concatenate(list(splits.values()))
    assert sorted(everyone) == list(range(len(PATIENTS)))
    assert len(splits["test"]) == pytest.approx(1000, abs=100)
    assert len(splits["val"]) == pytest.approx(600, abs=80)


@pytest.mark.parametrize("config", [SplitConfig(), SplitConfig(n_folds=5, fold=2), SplitConfig(seed=9)])
def test_nobody_changes_sides_when_others_come_or_go(config: SplitConfig) -> None:
    everyone = sides(PATIENTS, ONE_SET, config)
    some = np.random.default_rng(0).permutation(PATIENTS)[:1500]
    assert sides(some, ONE_SET[:1500], config) == {int(p): everyone[int(p)] for p in some}


def test_all_stays_of_a_patient_are_on_one_side() -> None:
    patients = np.repeat(np.arange(500), 3)
    splits = split_stays(patients, ["a"] * 1500, SplitConfig())
    of_split = [set(patients[stays]) for stays in splits.values()]
    assert sum(map(len, of_split)) == len(set().union(*of_split)) == 500


def test_folds_partition_the_stays_and_the_seed_matters() -> None:
    tests = [split_stays(PATIENTS, ONE_SET, SplitConfig(n_folds=4, fold=fold))["test"] for fold in range(4)]
    assert sorted(np.concatenate(tests)) == list(range(len(PATIENTS)))
    other = split_stays(PATIENTS, ONE_SET, SplitConfig(n_folds=4, fold=0, seed=1))["test"]
    assert set(other) != set(tests[0])


def test_named_sets_are_the_splits() -> None:
    patients, sets = np.arange(300), ["a"] * 100 + ["b"] * 100 + ["c"] * 100
    splits = split_stays(patients, sets, SplitConfig(train_sets=("a",), test_sets=("b",)))
    assert splits["test"].tolist() == list(range(100, 200))
    assert set(splits["train"]) | set(splits["val"]) == set(range(100))
    rest = split_stays(patients, sets, SplitConfig(test_sets=("b",)))
    assert set(rest["train"]) | set(rest["val"]) == set(range(100)) | set(range(200, 300))
    inside = split_stays(patients, sets, SplitConfig(train_sets=("a",)))
    assert set(np.concatenate(list(inside.values()))) == set(range(100))


def test_a_patient_in_training_and_test_sets_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"2 patients are in train_sets and in test_sets: a patient trained on"
    ):
        split_stays(
            np.array([*range(10), 8, 9]),
            ["a"] * 10 + ["b"] * 2,
            SplitConfig(train_sets=("a",), test_sets=("b",)),
        )


def test_an_unknown_set_is_answered_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"unknown set of stays 'set-a': .*There are: a"):
        split_stays(PATIENTS, ONE_SET, SplitConfig(train_sets=("set-a",)))


def test_an_empty_split_is_named_with_counts_and_a_remedy() -> None:
    splits = split_stays(
        np.array([1, 2]), ["a", "b"], SplitConfig(train_sets=("a",), test_sets=("b",), val_fraction=0.01)
    )
    with pytest.raises(ValueError, match=r"val split is empty .*train 1, val 0, test 1.*change data.splits"):
        refuse_empty(splits, SplitConfig(train_sets=("a",), test_sets=("b",), val_fraction=0.01), "stays")


def test_a_split_of_fraction_zero_is_not_wanted() -> None:
    config = SplitConfig(val_fraction=0, test_fraction=0)
    splits = split_stays(PATIENTS, ONE_SET, config)
    refuse_empty(splits, config, "stays")
    assert len(splits["train"]) == len(PATIENTS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_fraction": 1.0}, "val_fraction=1.0"),
        ({"test_fraction": -0.1}, "test_fraction=-0.1"),
        ({"n_folds": 1}, "n_folds=1"),
        ({"n_folds": 5, "fold": 5}, "fold=5: allowed is 0 to 4"),
        ({"fold": 1}, "fold=1: allowed is 0 to 0"),
        ({"n_folds": 5, "test_sets": ("b",)}, "both name the test split"),
        ({"train_sets": ("a", "b"), "test_sets": ("b",)}, "share b"),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SplitConfig(**options)
