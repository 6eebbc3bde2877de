"""Predicted quantiles, judged on weighted rows (see ``weighted``).

Letters: N rows, R weightings, Q quantiles.
"""

from __future__ import annotations

import numpy as np

from slices.training.evaluation.weighted import Array, weighted_mean


def quantile_coverage(prediction: Array, label: Array, weight: Array) -> Array:
    """The share of labels at or below a predicted quantile ``(N,)``, which should be the quantile's level.

    >>> quantile_coverage(np.array([2.0, 2.0, 2.0, 2.0]), np.arange(4.0), np.ones((1, 4)))
    array([0.75])
    """
    return weighted_mean(label <= prediction, weight)


def interval_coverage(prediction: Array, label: Array, weight: Array) -> Array:
    """The share of labels within the lowest and highest of the predicted quantiles ``(N, Q)``, ends included.

    >>> interval_coverage(np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([0.5, 2.0]), np.ones((1, 2)))
    array([0.5])
    """
    return weighted_mean((prediction.min(1) <= label) & (label <= prediction.max(1)), weight)


def pinball_loss(prediction: Array, label: Array, weight: Array, *, level: float) -> Array:
    """Mean of ``level * (y - q)`` above the quantile q ``(N,)`` and ``(1 - level) * (q - y)`` below it.

    Koenker & Bassett, "Regression quantiles" (1978).

    >>> pinball_loss(np.array([1.0]), np.array([3.0]), np.ones((1, 1)), level=0.9)
    array([1.8])
    """
    off = label - prediction
    return weighted_mean(np.maximum(level * off, (level - 1) * off), weight)
