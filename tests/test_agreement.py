"""Data of fine-tuning that do not go together with those of pretraining are refused, or warned of."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from slices.training.agreement import compare_views, refuse_other_split
from slices.training.config import plain
from slices.training.data.splits import SplitConfig, split_stays

FRACTION = SplitConfig()
FOLD = SplitConfig(n_folds=3, fold=1)
A_TO_B = SplitConfig(train_sets=("a",), test_sets=("b",))


@pytest.mark.parametrize(
    ("then", "now", "allowed"),
    [
        (FRACTION, FRACTION, True),
        (FRACTION, replace(FRACTION, val_fraction=0.0), True),
        (FRACTION, replace(FRACTION, test_fraction=0.1), True),
        (FRACTION, replace(FRACTION, test_fraction=0.3), False),
        (FRACTION, replace(FRACTION, seed=1), False),
        (FRACTION, FOLD, False),
        (FOLD, replace(FOLD, val_fraction=0.3), True),
        (FOLD, replace(FOLD, train_sets=("a",)), True),
        (FOLD, replace(FOLD, fold=0), False),
        (FOLD, replace(FOLD, n_folds=4), False),
        (FOLD, A_TO_B, False),
        (A_TO_B, replace(A_TO_B, val_fraction=0.3), True),
        (A_TO_B, replace(A_TO_B, test_sets=("c",)), True),
        (A_TO_B, SplitConfig(train_sets=("b",)), True),
        (A_TO_B, SplitConfig(train_sets=("a",)), False),
        (A_TO_B, SplitConfig(test_sets=("a",)), False),
        (SplitConfig(test_sets=("b",)), A_TO_B, True),
        (SplitConfig(test_sets=("b",)), SplitConfig(test_sets=("c",)), False),
        (SplitConfig(train_sets=("a",)), A_TO_B, True),
        (SplitConfig(train_sets=("*",)), A_TO_B, False),
        (SplitConfig(train_sets=("[ac]",)), A_TO_B, True),
        (SplitConfig(train_sets=("a",), val_sets=("b",)), A_TO_B, True),
    ],
)
def test_another_split_is_refused_where_test_stays_may_have_been_trained_on(
    then: SplitConfig, now: SplitConfig, allowed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """And only there: the answer is held against the splits themselves."""

    def known(splits: SplitConfig, dataset: str) -> dict[str, Any]:
        return {"source": "s", "dataset": dataset, "patients": dataset, "splits": plain(splits)}

    patients = np.arange(600)
    sets = np.array(["a", "b", "c"])[patients % 3].tolist()
    stays = pl.DataFrame({"patient_id": patients, "set": sets})
    trained, tested = (split_stays(patients, sets, s)[k] for s, k in ((then, "train"), (now, "test")))
    both = sorted(set(trained.tolist()) & set(tested.tolist()))
    assert bool(both) is not allowed
    counted = f"held {len(both)} of the patients"
    with nullcontext() if allowed else pytest.raises(ValueError, match=counted):
        refuse_other_split(known(then, "d"), known(now, "d"), stays)
    refuse_other_split(known(then, "d"), known(now, "e"), stays)
    assert ("another split" in caplog.text) is not allowed
    refuse_other_split({}, known(now, "d"), stays)
    with nullcontext() if allowed else pytest.raises(ValueError, match=counted):  # tasks were added
        refuse_other_split(known(then, "d"), known(now, "d") | {"dataset": "e"}, stays)


def test_sets_of_pretraining_that_are_not_here_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    stays = pl.DataFrame({"patient_id": np.arange(60), "set": ["a"] * 60})
    then, now = (
        {"source": "s", "dataset": name, "patients": name, "splits": plain(splits)}
        for name, splits in (("d", A_TO_B), ("e", FRACTION))
    )
    refuse_other_split(then, now, stays)
    assert "held patients to be tested on, if the dataset of then (d)" in caplog.text


def test_what_a_step_sums_up_is_compared_with_pretraining(caplog: pytest.LogCaptureFixture) -> None:
    then = {"summed": ["urine", "stool"], "resolution": 1.0, "aggregate": "mean"}
    compare_views(then, then, ["hr", "urine", "stool"])
    compare_views({}, then, ["hr"])  # a file of an earlier version does not say
    compare_views(then, then | {"summed": ["urine"]}, ["hr", "urine"])  # stool is not there
    assert not caplog.text
    with pytest.raises(
        ValueError, match=r"stool: added up within a time step in pretraining or here, not in"
    ):
        compare_views(then, then | {"summed": ["urine"]}, ["hr", "urine", "stool"])
    compare_views(then, then | {"resolution": 4.0, "aggregate": "last"}, ["hr", "urine"])
    assert "pretrained with resolution=1.0, aggregate=mean, here with resolution=4.0, aggr" in caplog.text
