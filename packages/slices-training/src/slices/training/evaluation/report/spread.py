"""Do predicted quantiles hold what they promise? Coverage and pinball loss of each, all targets together."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from slices.training.evaluation.bootstrap import Array, Predictions, metric_draws
from slices.training.evaluation.quantiles import interval_coverage, pinball_loss, quantile_coverage
from slices.training.evaluation.report.config import EvaluateConfig
from slices.training.evaluation.report.parts import Part
from slices.training.evaluation.report.results import Draws
from slices.training.evaluation.report.suites import Suite


def spread_of(
    run: Predictions, quantiles: Mapping[float, Array], config: EvaluateConfig
) -> tuple[list[Part], Draws]:
    """A part a quantile, and one for the interval from the lowest to the highest.

    Each of ``quantiles``, by its level, has the shape of ``run.prediction``.
    """
    parts: list[Part] = []
    draws: Draws = {}
    for level, values in quantiles.items():
        metrics: Suite = {"coverage": quantile_coverage, "pinball_loss": partial(pinball_loss, level=level)}
        _judge(parts, draws, ("quantile", f"{level:g}"), metrics, _long(run, values), config)
    if len(quantiles) > 1:
        low, high = min(quantiles), max(quantiles)
        ends = np.stack([_long(run, quantiles[level]).prediction for level in (low, high)], axis=1)
        between = _long(run, run.prediction)._replace(prediction=ends)
        key = ("quantile", f"{low:g} to {high:g}")
        _judge(parts, draws, key, {"coverage": interval_coverage}, between, config)
    return parts, draws


def _judge(
    parts: list[Part],
    draws: Draws,
    key: tuple[str, str],
    metrics: Suite,
    run: Predictions,
    config: EvaluateConfig,
) -> None:
    rows = np.arange(len(run.label))
    parts.append(Part(key, len(rows), len(np.unique(run.patient_id)), rows))
    draws |= metric_draws(metrics, {key: run}, n_resamples=config.n_resamples, seed=config.seed)


def _long(run: Predictions, values: Array) -> Predictions:
    """Targets below each other, those without a label left out."""
    label = run.label.reshape(len(run.label), -1)
    row, target = np.nonzero(np.isfinite(label))
    of_target = values.reshape(label.shape)[row, target]
    return Predictions(run.row_id[row], run.patient_id[row], label[row, target], of_target)
