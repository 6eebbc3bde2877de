"""Metrics of weighted rows, for all weightings at once: what a bootstrap needs.

Each takes predictions and labels and weights ``(R, N)`` and gives ``(R,)``; NaN where the weights leave a
metric undefined. Rows of integer weight count as that many rows, ties included: scikit-learn's metrics
with ``sample_weight`` agree.

Letters: N rows, R weightings, C outputs, G groups of tied scores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
LEAST_SPREAD = 1e-12  # of a mean square: what rounding leaves of a variance of 0


def auroc(score: Array, label: Array, weight: Array) -> Array:
    """Area under the ROC curve: how often a positive row scores above a negative one, ties by half.

    ``score`` and ``label`` (0, 1) are ``(N,)``; a score ``(N, C)`` gives the mean ``over_columns``.
    Hanley & McNeil, "The meaning and use of the area under a ROC curve" (1982).

    >>> auroc(np.array([0.2, 0.2, 0.7]), np.array([0, 1, 1]), np.array([[1.0, 1.0, 1.0], [2.0, 0.0, 1.0]]))
    array([0.75, 1.  ])
    """
    if score.ndim == 2:
        return over_columns(auroc, score, label, weight)
    positive, negative = tied(score, label, weight)
    below = np.cumsum(negative, axis=1) - negative / 2
    return ratio((positive * below).sum(1), positive.sum(1) * negative.sum(1))


def auprc(score: Array, label: Array, weight: Array) -> Array:
    """Average precision: the precision at each score, weighted by the positive rows that have it.

    ``score`` and ``label`` (0, 1) are ``(N,)``; a score ``(N, C)`` gives the mean ``over_columns``.
    Davis & Goadrich, "The relationship between precision-recall and ROC curves" (2006).

    >>> auprc(np.array([0.2, 0.5, 0.7]), np.array([1, 0, 1]), np.ones((1, 3))).round(4)
    array([0.8333])
    """
    if score.ndim == 2:
        return over_columns(auprc, score, label, weight)
    positive, negative = tied(-score, label, weight)
    found = np.cumsum(positive, axis=1)
    precision = ratio(found, found + np.cumsum(negative, axis=1))
    return ratio(np.where(positive > 0, positive * precision, 0).sum(1), positive.sum(1))


def over_columns(
    metric: Callable[[Array, Array, Array], Array], score: Array, label: Array, weight: Array
) -> Array:
    """The mean of a metric over the columns of ``score`` on which it is defined.

    ``label`` holds the class ``(N,)``, each set against the rest, or one label a column ``(N, C)``, NaN
    where it is missing.

    >>> label = np.array([[2.0, np.nan], [2.0, 1.0]])
    >>> over_columns(mae, np.array([[1.0, 1.0], [1.0, 4.0]]), label, np.ones((1, 2)))
    array([2.])
    """
    if label.ndim == 1:
        label = label[:, None] == np.arange(score.shape[1])
    present = np.isfinite(label)
    known = np.where(present, label, 0)
    columns = [metric(s, y, weight * there) for s, y, there in zip(score.T, known.T, present.T, strict=True)]
    defined = np.isfinite(columns)
    return ratio(np.where(defined, columns, 0).sum(0), defined.sum(0))


def accuracy(prob: Array, label: Array, weight: Array) -> Array:
    """Share of right classes: of ``prob`` ``(N, C)``, or of the probability ``(N,)`` of class 1."""
    guess = prob.argmax(1) if prob.ndim == 2 else prob > 0.5
    return weighted_mean(guess == label, weight)


def mse(prediction: Array, label: Array, weight: Array) -> Array:
    """Mean squared error of ``(N,)``."""
    return weighted_mean((prediction - label) ** 2, weight)


def rmse(prediction: Array, label: Array, weight: Array) -> Array:
    """Root of the mean squared error of ``(N,)``."""
    return np.asarray(np.sqrt(mse(prediction, label, weight)))


def mae(prediction: Array, label: Array, weight: Array) -> Array:
    """Mean absolute error of ``(N,)``."""
    return weighted_mean(np.abs(prediction - label), weight)


def r2(prediction: Array, label: Array, weight: Array) -> Array:
    """1 - squared error / variance of the label, of ``(N,)``."""
    about_0 = label - label.mean() if len(label) else label  # large squares would differ by rounding alone
    square = weighted_mean(about_0**2, weight)
    variance = square - weighted_mean(about_0, weight) ** 2
    variance = np.where(variance > LEAST_SPREAD * square, variance, 0.0)  # labels that are all the same
    return 1 - ratio(mse(prediction, label, weight), variance)


def tied(score: Array, label: Array, weight: Array) -> tuple[Array, Array]:
    """Weights of the positive and of the negative rows per group of tied scores, ascending: two (R, G).

    Neighbouring groups without a positive row are merged: neither area depends on their order.
    """
    order = np.argsort(score, kind="stable")
    score, is_positive = score[order], label[order] == 1
    opens = np.append(True, score[1:] != score[:-1])
    tie = np.cumsum(opens) - 1
    matters = np.bincount(tie, weights=is_positive) > 0
    opens &= (matters | np.append(True, matters[:-1]))[tie]
    group = np.cumsum(opens) - 1
    total = np.add.reduceat(weight[:, order], np.flatnonzero(opens), axis=1)
    positive = np.zeros_like(total)
    groups, starts = np.unique(group[is_positive], return_index=True)
    if len(groups):
        positive[:, groups] = np.add.reduceat(weight[:, order[is_positive]], starts, axis=1)
    return positive, total - positive


def weighted_mean(values: Array, weight: Array) -> Array:
    """``values`` ``(N,)`` -> their mean under each weighting, ``(R,)``."""
    return ratio(weight @ values.astype(np.float64), weight.sum(1))


def ratio(above: Array, below: Array) -> Array:
    """``above / below``, NaN where ``below`` is not positive."""
    quotient: Array = np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
    return quotient
