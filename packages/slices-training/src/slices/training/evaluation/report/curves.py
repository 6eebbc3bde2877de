"""Curves of a binary task: over thresholds; as predicted and at the temperature that was chosen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from slices.training.evaluation.bootstrap import Array, Predictions
from slices.training.evaluation.calibration import calibration_curve
from slices.training.evaluation.operating import net_benefit, ppv, sensitivity, specificity
from slices.training.evaluation.report.results import Evaluation
from slices.training.evaluation.selection import scaled

MOST_POINTS = 200  # of a curve over a model's own thresholds
THRESHOLDS = np.arange(1, 100) / 100  # of the decision curve


def decision_curves(evaluation: Evaluation) -> pl.DataFrame:
    """Net benefit of each model at each threshold, and of treating everybody (nobody is 0).

    Vickers & Elkin, "Decision curve analysis" (2006).
    """
    curves = [
        pl.DataFrame({"threshold": THRESHOLDS, "net_benefit": _benefits(prob, label)}).with_columns(
            everybody=_benefits(np.ones_like(prob), label), model=pl.lit(name), scaled=pl.lit(is_scaled)
        )
        for name, is_scaled, prob, label in _runs(evaluation)
    ]
    return pl.concat(curves)


def calibration_curves(evaluation: Evaluation) -> pl.DataFrame:
    """Mean probability, observed rate and rows in each bin of each model."""
    curves = [
        pl.DataFrame(calibration_curve(prob, label)._asdict()).with_columns(
            model=pl.lit(name), scaled=pl.lit(is_scaled)
        )
        for name, is_scaled, prob, label in _runs(evaluation)
    ]
    return pl.concat(curves)


def operating_curves(evaluation: Evaluation, *, least: int) -> pl.DataFrame:
    """Sensitivity, specificity and PPV of each model at thresholds from high to low, as predicted.

    Between two thresholds, and beyond the first and the last, are the rows of about ``least`` patients or
    more, so that no step of a curve is a few patients'.
    """
    return pl.concat(
        [_points(run, least).with_columns(model=pl.lit(name)) for name, run in evaluation.tested.items()]
    )


def _points(run: Predictions, least: int) -> pl.DataFrame:
    points = min(MOST_POINTS, len(np.unique(run.patient_id)) // least)
    shares = np.linspace(1, 0, points + 1)[1:-1]
    thresholds = np.unique(np.quantile(run.prediction, shares, method="lower"))[::-1]
    weight = np.ones((1, len(run.label)))
    rates = {"sensitivity": sensitivity, "specificity": specificity, "ppv": ppv}
    of_rates = {
        name: [rate(run.prediction, run.label, weight, threshold=t)[0] for t in thresholds]
        for name, rate in rates.items()
    }
    return pl.DataFrame({"threshold": thresholds, **of_rates})


def _runs(evaluation: Evaluation) -> Iterator[tuple[str, bool, Array, Array]]:
    """Each model's test rows: its name, whether at the temperature, probability and label."""
    for name, run in evaluation.tested.items():
        yield name, False, run.prediction, run.label
        if (temperature := evaluation.choices[name].temperature) is not None:
            yield name, True, scaled(run.prediction, temperature), run.label


def _benefits(prob: Array, label: Array) -> pl.Series:
    weight = np.ones((1, len(label)))
    return pl.Series([net_benefit(prob, label, weight, threshold=t)[0] for t in THRESHOLDS])
