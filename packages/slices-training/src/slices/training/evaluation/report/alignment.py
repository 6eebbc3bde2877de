"""The same test rows for every model, in the same order."""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import numpy as np
import polars as pl

from slices.training.evaluation.bootstrap import Array, Predictions
from slices.training.evaluation.report.files import KEY, Contents, Rows


class Aligned(NamedTuple):
    """The test predictions of each model, what their rows are, and how many other rows each model had.

    ``quantiles`` of a model are by level, in the shape of its predictions.
    """

    models: dict[str, Predictions]
    quantiles: dict[str, dict[float, Array]]
    about: pl.DataFrame
    left_out: dict[str, int]


def aligned_test_rows(contents: Contents) -> Aligned:
    """The test rows that all models predicted.

    Raises:
        ValueError: there are none, or models disagree about a row's patient or label, or patients of a
            model's test rows are among those of its validation rows.
    """
    tests = {name: splits["test"] for name, splits in contents.models.items()}
    shared = reduce(
        lambda left, right: left.join(right, on=KEY, how="semi"), [rows.about for rows in tests.values()]
    )
    if not len(shared):
        raise ValueError("no test row that all models predicted: compare models on the same stays")
    chosen = {name: _positions(rows, shared) for name, rows in tests.items()}
    models = {name: _part(predictions_of(rows), chosen[name]) for name, rows in tests.items()}
    quantiles = {
        name: {level: values[chosen[name]] for level, values in rows.quantiles.items()}
        for name, rows in tests.items()
    }
    _check_agreement(models)
    _check_patients(contents)
    left_out = {name: len(rows.about) - len(shared) for name, rows in tests.items()}
    return Aligned(models, quantiles, shared, left_out)


def predictions_of(rows: Rows) -> Predictions:
    """All rows of a split."""
    patients = rows.about["patient_id"].to_numpy()
    return Predictions(np.arange(len(patients)), patients, rows.label, rows.prediction)


def _positions(rows: Rows, shared: pl.DataFrame) -> Array:
    """Where the shared rows are; both are sorted by key."""
    return rows.about.with_row_index("at").join(shared, on=KEY, how="semi")["at"].sort().to_numpy()


def _part(run: Predictions, positions: Array) -> Predictions:
    return Predictions(np.arange(len(positions)), *(part[positions] for part in run[1:]))


def _check_agreement(models: dict[str, Predictions]) -> None:
    (first, one), *others = models.items()
    for name, other in others:
        pairs = {"patients": (one.patient_id, other.patient_id), "labels": (one.label, other.label)}
        for what, (mine, theirs) in pairs.items():
            if not np.array_equal(mine, theirs, equal_nan=True):
                raise ValueError(f"{first!r} and {name!r} have different {what} in the same test rows")


def _check_patients(contents: Contents) -> None:
    for name, splits in contents.models.items():
        if "val" in splits:
            val, test = (set(splits[split].about["patient_id"]) for split in ("val", "test"))
            if both := len(val & test):
                raise ValueError(
                    f"model {name!r}: {both} patients are in both val and test, so that what is chosen on "
                    "val would have seen the test: leave their val rows out"
                )
