"""What is said of few patients: nothing."""

from __future__ import annotations

import numpy as np

from slices.training.evaluation.bootstrap import Array, Predictions
from slices.training.evaluation.calibration import N_BINS, calibration_curve
from slices.training.report.cells import count, number


def patients_in(patients: Array) -> int:
    """How many patients some rows are of."""
    return len(np.unique(patients))


def enough_of(patients: Array, least: int) -> bool:
    """Are rows of so many patients that they may be shown?"""
    return patients_in(patients) >= least


def rows_shown(rows: Array, patients: Array, least: int) -> str:
    """The number of rows ``(N,)`` that are True, unless they are of few patients.

    >>> rows_shown(np.array([True, True, False]), np.array([1, 1, 2]), 2)
    '<2'
    """
    n_patients = patients_in(patients[rows])
    return count(n_patients, least) if n_patients < least else number(int(rows.sum()))


def bins_of_enough(run: Predictions, least: int) -> tuple[Array, Array]:
    """Mean prediction and mean label in bins of equal mass, each of at least ``least`` patients.

    >>> stays = np.arange(40)
    >>> bins_of_enough(Predictions(stays, stays, stays % 2, stays / 40), 20)[1]
    array([0.5, 0.5])
    """
    n_bins = max(1, min(N_BINS, patients_in(run.patient_id) // least))
    curve = calibration_curve(run.prediction, run.label, n_bins=n_bins)
    ordered = run.patient_id[np.argsort(run.prediction, kind="stable")]
    of_bins = np.split(ordered, np.cumsum(curve.rows.astype(int))[:-1])
    shown = [enough_of(patients, least) for patients in of_bins]
    return curve.predicted[shown], curve.observed[shown]
