"""Is one model better than another? Tests on the same rows, and what many tests cost.

Letters: N rows, R resamples, P positive and Q negative rows, M comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from slices.training.evaluation.weighted import Array


def bootstrap_p_value(differences: Array) -> float:
    """Two-sided: twice the smaller share of resampled differences ``(R,)`` on one side of 0, 0 included.

    It is below 0.05 where the percentile interval of 95 % leaves out 0, and at least 2 / (R + 1), since the
    observed difference counts as a resample: Davison & Hinkley, "Bootstrap methods and their application"
    (1997), section 4.2. NaN (a resample that does not define the metric) is left out.

    >>> bootstrap_p_value(np.array([0.1, 0.2, 0.3])), bootstrap_p_value(np.array([-0.1, 0.1, 0.0]))
    (0.5, 1.0)
    """
    defined = differences[np.isfinite(differences)]
    if not len(defined):
        return math.nan
    below, above = (defined <= 0).sum(), (defined >= 0).sum()
    return float(min(1.0, 2 * (min(below, above) + 1) / (len(defined) + 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P values of M comparisons, such that all below a level together err with no more than that probability.

    The k-th smallest times M - k + 1, made ascending. NaN is no comparison and stays NaN.
    Holm, "A simple sequentially rejective multiple test procedure" (1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(given)[: int(np.isfinite(given).sum())]
    factors = np.arange(len(order), 0, -1)
    adjusted = np.full(len(given), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(given[order] * factors), 1.0)
    return [float(p) for p in adjusted]


def delong_p_value(score: Array, other: Array, label: Array) -> float:
    """Two-sided p value of equal AUROC of two scores ``(N,)`` of the same rows, by asymptotic covariance.

    It takes rows to be independent: one a patient. DeLong, DeLong & Clarke-Pearson, "Comparing the areas
    under two or more correlated receiver operating characteristic curves" (1988), with the mid-ranks of
    Sun & Xu (2014). NaN with fewer than two rows of a class.

    >>> label = np.array([0, 0, 0, 1, 1, 1])
    >>> round(delong_p_value(np.array([1, 2, 4, 3, 5, 6.0]), np.array([4, 2, 6, 3, 5, 1.0]), label), 3)
    0.025
    """
    positive = label == 1
    if min(positive.sum(), (~positive).sum()) < 2:
        return math.nan
    of_positive, of_negative = zip(*(_placements(one, positive) for one in (score, other)), strict=True)
    difference = float(np.mean(of_positive[0]) - np.mean(of_positive[1]))
    parts = ((of_positive, positive.sum()), (of_negative, (~positive).sum()))
    variance = sum(float(np.var(part[0] - part[1], ddof=1)) / int(size) for part, size in parts)
    if variance <= 0:
        return 1.0 if difference == 0 else 0.0
    return math.erfc(abs(difference) / math.sqrt(2 * variance))


def _placements(score: Array, positive: Array) -> tuple[Array, Array]:
    """Of each positive row the share of negatives below it, of each negative row that of positives above."""
    ranks = _mid_ranks(score)
    below = (ranks[positive] - _mid_ranks(score[positive])) / (~positive).sum()
    above = 1 - (ranks[~positive] - _mid_ranks(score[~positive])) / positive.sum()
    return below, above


def _mid_ranks(score: Array) -> Array:
    """Ranks from 1, ties sharing the mean of theirs."""
    _, group, sizes = np.unique(score, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(sizes) - (sizes - 1) / 2)[group])
