"""What is chosen on validation rows, and on no others: a temperature and a threshold.

Binary: ``prob`` of class 1 and ``label`` (0, 1), both ``(N,)``. Multiclass: ``(N, C)`` and classes ``(N,)``.
Multilabel tasks come as one long binary one.

Letters: N rows, C classes.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from slices.training.evaluation.calibration import LEAST, to_logit
from slices.training.evaluation.weighted import Array

ThresholdRule = Literal["youden", "f1"]
HOTTEST = 100.0  # also the inverse of the coldest


def fit_temperature(prob: Array, label: Array) -> float:
    """The T > 0 of least log loss of ``scaled(prob, T)``: above 1, the probabilities were too extreme.

    One number a task. The loss is convex in 1/T, whose derivative is bisected on a logarithmic scale; from
    1/100 to 100. Guo et al., "On calibration of modern neural networks" (2017), section 4.2.

    Raises:
        ValueError: no row.

    >>> fit_temperature(np.array([0.9, 0.9, 0.9, 0.9]), np.array([1, 1, 1, 0]))
    2.0
    """
    if not len(label):
        raise ValueError("no row to fit a temperature to")
    logit = _logits(prob)
    truth = label[:, None] == np.arange(logit.shape[1])
    low, high = -np.log(HOTTEST), np.log(HOTTEST)  # of log(1 / T)
    for _ in range(60):
        middle = (low + high) / 2
        scaled_prob = _softmax(logit * np.exp(middle))
        too_cold = ((scaled_prob - truth) * logit).sum() > 0
        low, high = (low, middle) if too_cold else (middle, high)
    return float(np.round(np.exp(-(low + high) / 2), 6))


def scaled(prob: Array, temperature: float) -> Array:
    """Probabilities at a temperature, of ``logits / T``, in the shape of ``prob``.

    >>> scaled(np.array([0.5, 0.9]), 2.0), scaled(np.array([[0.1, 0.9]]), 2.0)
    (array([0.5 , 0.75]), array([[0.25, 0.75]]))
    """
    at_temperature = _softmax(_logits(prob) / temperature)
    return at_temperature if prob.ndim == 2 else at_temperature[:, 1]


def choose_threshold(score: Array, label: Array, rule: ThresholdRule) -> float:
    """The score ``(N,)`` at and above which rows count as positive; of several equally good, the highest.

    ``youden``: the most sensitivity + specificity - 1 (Youden, "Index for rating diagnostic tests", 1950).
    ``f1``: the most F1, which looks at the positive rows only.

    Raises:
        ValueError: one class only.

    >>> choose_threshold(np.array([0.1, 0.3, 0.2, 0.8]), np.array([0, 1, 0, 1]), "youden")
    0.3
    """
    positives = int((label == 1).sum())
    negatives = len(label) - positives
    if not positives or not negatives:
        raise ValueError(f"{positives} positive and {negatives} negative rows: a threshold needs both")
    order = np.argsort(-score, kind="stable")
    last_of_tie = np.append(score[order][1:] != score[order][:-1], True)
    true = np.cumsum(label[order] == 1)[last_of_tie]
    false = np.cumsum(label[order] != 1)[last_of_tie]
    if rule == "youden":
        goodness = true / positives - false / negatives
    else:
        goodness = 2 * true / (true + false + positives)
    return float(score[order][last_of_tie][goodness.argmax()])


def _logits(prob: Array) -> Array:
    """``(N, C)``, of a binary task with 0 for class 0."""
    if prob.ndim == 2:
        return np.asarray(np.log(np.clip(prob, LEAST, 1)))
    return np.stack([np.zeros(len(prob)), to_logit(prob)], axis=1)


def _softmax(logit: Array) -> Array:
    powers = np.exp(logit - logit.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))
