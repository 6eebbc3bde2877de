"""What a classifier does at a threshold, as metrics of weighted rows (see ``weighted``).

A row counts as positive where its score is at or above the threshold. Scores and labels (0, 1) are ``(N,)``,
weights ``(R, N)``, results ``(R,)``.

Letters: N rows, R weightings, G groups of tied scores.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from slices.training.evaluation.weighted import Array, over_columns, ratio, tied


class Confusion(NamedTuple):
    """Weight of the rows that are right and wrong, each ``(R,)`` (or ``(R, G)``, at every score)."""

    true_positive: Array
    false_positive: Array
    false_negative: Array
    true_negative: Array


def confusion(score: Array, label: Array, weight: Array, threshold: float) -> Confusion:
    """The four cells at a threshold.

    >>> confusion(np.array([0.2, 0.5, 0.7]), np.array([1, 0, 1]), np.ones((1, 3)), 0.5)[:3]
    (array([1.]), array([1.]), array([1.]))
    """
    alarm, positive = score >= threshold, label == 1
    cells = (alarm & positive, alarm & ~positive, ~alarm & positive, ~alarm & ~positive)
    return Confusion(*(weight @ cell.astype(np.float64) for cell in cells))


def sensitivity(score: Array, label: Array, weight: Array, *, threshold: float) -> Array:
    """TP / (TP + FN): the share of positive rows that are found."""
    at = confusion(score, label, weight, threshold)
    return ratio(at.true_positive, at.true_positive + at.false_negative)


def specificity(score: Array, label: Array, weight: Array, *, threshold: float) -> Array:
    """TN / (TN + FP): the share of negative rows without an alarm."""
    at = confusion(score, label, weight, threshold)
    return ratio(at.true_negative, at.true_negative + at.false_positive)


def ppv(score: Array, label: Array, weight: Array, *, threshold: float) -> Array:
    """TP / (TP + FP), the positive predictive value: the share of alarms that are right."""
    at = confusion(score, label, weight, threshold)
    return ratio(at.true_positive, at.true_positive + at.false_positive)


def f1(score: Array, label: Array, weight: Array, *, threshold: float) -> Array:
    """2 TP / (2 TP + FP + FN): the harmonic mean of sensitivity and positive predictive value.

    van Rijsbergen, "Information retrieval" (1979), chapter 7.
    """
    at = confusion(score, label, weight, threshold)
    twice = 2 * at.true_positive
    return ratio(twice, twice + at.false_positive + at.false_negative)


def macro_f1(prob: Array, label: Array, weight: Array) -> Array:
    """The mean F1 of the classes, of ``prob`` ``(N, C)``, the likeliest class being the guess.

    Classes that are neither guessed nor true are left out.
    """
    guessed = prob.argmax(1)[:, None] == np.arange(prob.shape[1])
    return over_columns(partial(f1, threshold=0.5), guessed.astype(np.float64), label, weight)


def accuracy_at(score: Array, label: Array, weight: Array, *, threshold: float) -> Array:
    """(TP + TN) / all."""
    at = confusion(score, label, weight, threshold)
    return ratio(at.true_positive + at.true_negative, weight.sum(1))


def net_benefit(prob: Array, label: Array, weight: Array, *, threshold: float) -> Array:
    """TP / n - FP / n * t / (1 - t): true alarms, less the false ones at the price that t puts on them.

    Vickers & Elkin, "Decision curve analysis" (2006). Nobody treated is 0; everybody treated is this at a
    probability of 1.

    >>> net_benefit(np.array([0.1, 0.6]), np.array([0, 1]), np.ones((1, 2)), threshold=0.5)
    array([0.5])
    """
    at = confusion(prob, label, weight, threshold)
    return ratio(at.true_positive - at.false_positive * threshold / (1 - threshold), weight.sum(1))


def min_se_ppv(score: Array, label: Array, weight: Array) -> Array:
    """min(Se, +P): over all thresholds, the most that both sensitivity and positive predictive value reach.

    Silva et al., "Predicting in-hospital mortality of ICU patients: the PhysioNet/Computing in Cardiology
    challenge 2012" (2012), event 1, whose threshold the entrants chose beforehand.

    >>> min_se_ppv(np.array([0.1, 0.4, 0.6, 0.9]), np.array([0, 1, 0, 1]), np.ones((1, 4))).round(3)
    array([0.667])
    """
    at = _at_every_score(score, label, weight)
    found = ratio(at.true_positive, at.true_positive + at.false_negative)
    right = ratio(at.true_positive, at.true_positive + at.false_positive)
    return _highest(np.minimum(found, right), np.isfinite(found) & np.isfinite(right))


def sensitivity_at_specificity(
    score: Array, label: Array, weight: Array, *, specificity: float = 0.9
) -> Array:
    """The highest sensitivity of a threshold whose specificity is at least that; 0 where there is none.

    >>> score, label = np.array([0.1, 0.4, 0.6, 0.9]), np.array([0, 1, 0, 1])
    >>> sensitivity_at_specificity(score, label, np.ones((1, 4)))
    array([0.5])
    """
    at = _at_every_score(score, label, weight)
    found = ratio(at.true_positive, at.true_positive + at.false_negative)
    quiet = ratio(at.true_negative, at.true_negative + at.false_positive)
    enough = quiet >= specificity - 1e-9  # weights are summed in floating point
    best = _highest(found, enough)
    no_alarm = np.where(np.isfinite(found[:, 0]) & np.isfinite(quiet[:, 0]), 0.0, np.nan)
    return np.where(np.isnan(no_alarm) | np.isnan(best), no_alarm, best)


def _at_every_score(score: Array, label: Array, weight: Array) -> Confusion:
    """The four cells ``(R, G)`` at each score of a positive row, from the highest down."""
    positive, negative = tied(-score, label, weight)
    true, false = np.cumsum(positive, axis=1), np.cumsum(negative, axis=1)
    return Confusion(true, false, true[:, -1:] - true, false[:, -1:] - false)


def _highest(values: Array, allowed: Array) -> Array:
    """The highest allowed value of each row, NaN where there is none."""
    best = np.where(allowed, values, -np.inf).max(1)
    return np.where(np.isfinite(best), best, np.nan)
