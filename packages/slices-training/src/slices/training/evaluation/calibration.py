"""Are probabilities what they say? Scores and calibration of weighted rows (see ``weighted``).

Binary: ``prob`` of class 1 and ``label`` (0, 1), both ``(N,)``. Multiclass: ``(N, C)`` and classes ``(N,)``.
Multilabel: both ``(N, C)``, NaN where a label is missing; the mean ``over_columns``. Logarithms take
probabilities no nearer to 0 or 1 than ``LEAST``, which is as near as single precision tells from 1.

Letters: N rows, R weightings, C classes or labels, G groups of tied scores, K bins.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from slices.training.evaluation.weighted import Array, over_columns, ratio, weighted_mean

LEAST = float(np.finfo(np.float32).eps)
N_BINS = 10
MAX_STEPS = 50


def brier(prob: Array, label: Array, weight: Array) -> Array:
    """Mean squared difference of probability and truth; of a multiclass task summed over the classes.

    Brier, "Verification of forecasts expressed in terms of probability" (1950).

    >>> brier(np.array([0.5, 1.0]), np.array([0, 1]), np.ones((1, 2)))
    array([0.125])
    """
    if label.ndim == 2:
        return over_columns(brier, prob, label, weight)
    if prob.ndim == 1:
        return weighted_mean((prob - label) ** 2, weight)
    truth = label[:, None] == np.arange(prob.shape[1])
    return weighted_mean(((prob - truth) ** 2).sum(1), weight)


def log_loss(prob: Array, label: Array, weight: Array) -> Array:
    """Mean of -log of the probability of what was true.

    >>> log_loss(np.array([0.5, 0.5]), np.array([0, 1]), np.ones((1, 2))).round(4)
    array([0.6931])
    """
    if label.ndim == 2:
        return over_columns(log_loss, prob, label, weight)
    if prob.ndim == 1:
        of_truth = np.where(label == 1, prob, 1 - prob)
    else:
        of_truth = np.take_along_axis(prob, label.astype(int)[:, None], axis=1)[:, 0]
    return weighted_mean(-np.log(np.clip(of_truth, LEAST, 1.0)), weight)


def calibration_error(prob: Array, label: Array, weight: Array, *, n_bins: int = N_BINS) -> Array:
    """Expected calibration error: |observed - predicted| in bins of equal mass, weighted by their mass.

    Bins hold equal shares of the weight, not of the unit interval, since risks crowd near 0; rows with the
    same probability share a bin. A multiclass task is judged by the likeliest class and whether it was
    right. Perfect probabilities do not reach 0: chance alone leaves about ``sqrt(n_bins * p (1 - p) / N)``.
    Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning" (2015); Nixon et al.,
    "Measuring calibration in deep learning" (2019) for equal mass.

    >>> calibration_error(np.array([0.1, 0.1, 0.8, 0.8]), np.array([0, 0, 1, 1]), np.ones((1, 4)), n_bins=2)
    array([0.15])
    """
    if label.ndim == 2:
        return over_columns(lambda p, y, w: calibration_error(p, y, w, n_bins=n_bins), prob, label, weight)
    if prob.ndim == 2:
        prob, label = prob.max(1), prob.argmax(1) == label
    order, starts = _ties(prob)
    ordered = weight[:, order]
    off = np.add.reduceat(ordered * (label - prob)[order], starts, axis=1)
    bins = _bins(np.add.reduceat(ordered, starts, axis=1), n_bins)
    flat = (bins + n_bins * np.arange(len(bins))[:, None]).ravel()
    in_bins = np.bincount(flat, weights=off.ravel(), minlength=n_bins * len(bins))
    return ratio(np.abs(in_bins.reshape(len(bins), n_bins)).sum(1), weight.sum(1))


def calibration_in_the_large(prob: Array, label: Array, weight: Array) -> Array:
    """The observed rate less the mean probability, of ``(N,)``: above 0, the risk is underestimated."""
    return weighted_mean(label - prob, weight)


def calibration_slope(prob: Array, label: Array, weight: Array) -> Array:
    """b of ``logit P(y = 1) = a + b logit(prob)``, of ``(N,)``: below 1, probabilities are too extreme.

    Cox, "Two further applications of a model for binary regression" (1958). NaN where probability and label
    leave it undefined.
    """
    logit = to_logit(prob)
    return _logistic(np.stack([np.ones_like(logit), logit]), 0 * logit, label, weight)[:, 1]


def calibration_intercept(prob: Array, label: Array, weight: Array) -> Array:
    """a of ``logit P(y = 1) = a + logit(prob)``, of ``(N,)``: above 0, the risk is underestimated.

    Cox (1958), with the slope held at 1.
    """
    logit = to_logit(prob)
    return _logistic(np.ones((1, len(logit))), logit, label, weight)[:, 0]


class CalibrationCurve(NamedTuple):
    """A point a bin, each ``(K,)``, from low to high; bins that ties leave empty are left out."""

    predicted: Array
    observed: Array
    rows: Array


def calibration_curve(prob: Array, label: Array, *, n_bins: int = N_BINS) -> CalibrationCurve:
    """Mean probability and observed rate in the bins of ``calibration_error``, of ``(N,)``.

    >>> calibration_curve(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1]), n_bins=2).observed
    array([0., 1.])
    """
    order, starts = _ties(prob)
    sizes = np.diff(np.append(starts, len(order)))
    of_row = np.repeat(_bins(sizes[None].astype(np.float64), n_bins)[0], sizes)
    rows = np.bincount(of_row, minlength=n_bins)
    sums = (np.bincount(of_row, weights=part[order], minlength=n_bins) for part in (prob, label))
    predicted, observed = (ratio(total, rows)[rows > 0] for total in sums)
    return CalibrationCurve(predicted, observed, rows[rows > 0])


def to_logit(prob: Array) -> Array:
    """log(p / (1 - p)), finite."""
    clipped = np.clip(prob, LEAST, 1 - LEAST)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def _ties(score: Array) -> tuple[Array, Array]:
    """The ascending order of the scores, and where in it each group of equal ones begins."""
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    return order, np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))


def _bins(mass: Array, n_bins: int) -> Array:
    """The bin ``(R, G)`` of each group, by the middle of its share of all mass below and within."""
    middle = np.cumsum(mass, axis=1) - mass / 2
    share = middle / np.maximum(mass.sum(1, keepdims=True), 1e-300)
    return np.asarray(np.minimum((share * n_bins).astype(int), n_bins - 1))


def _logistic(design: Array, offset: Array, label: Array, weight: Array) -> Array:
    """Logistic regression on ``design`` ``(F, N)`` by Newton's method, every weighting at once: ``(R, F)``.

    NaN where a weighting does not converge: one class only, or classes that a line separates.
    """
    theta = np.zeros((len(weight), len(design)))
    converged = np.zeros(len(weight), dtype=bool)
    for _ in range(MAX_STEPS):
        prob = 1 / (1 + np.exp(-np.clip(theta @ design + offset, -50, 50)))
        gradient = (weight * (label - prob)) @ design.T
        spread = weight * prob * (1 - prob)
        curvature = np.einsum("rn,fn,gn->rfg", spread, design, design, optimize=True)
        step, solvable = _solved(curvature, gradient)
        theta = theta + np.clip(step, -5, 5)
        converged = solvable & (np.abs(step).max(1) < 1e-9)
        if (converged | ~solvable).all():
            break
    return np.where(converged[:, None], theta, np.nan)


def _solved(curvature: Array, gradient: Array) -> tuple[Array, Array]:
    """Steps ``(R, F)``, 0 where the curvature is singular, and where it is not."""
    size = np.einsum("rff->r", curvature) / curvature.shape[1]
    regular = np.linalg.det(curvature / np.maximum(size, 1e-300)[:, None, None]) > 1e-12
    regular &= size > 1e-9
    safe = np.where(regular[:, None, None], curvature, np.eye(curvature.shape[1]))
    step = np.linalg.solve(safe, gradient[..., None])[..., 0]
    return np.where(regular[:, None], step, 0.0), regular
