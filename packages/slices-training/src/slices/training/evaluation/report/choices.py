"""What is chosen for each model on its validation rows: this file sees no others."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from slices.heads import TaskType
from slices.training.evaluation.bootstrap import Array, Predictions
from slices.training.evaluation.selection import HOTTEST, ThresholdRule, choose_threshold, fit_temperature


class Choice(NamedTuple):
    """A temperature for the task and a threshold for each label (one, of a binary task); None: not chosen."""

    temperature: float | None = None
    thresholds: tuple[float | None, ...] = ()
    notes: tuple[str, ...] = ()


def choose(validation: Predictions | None, task_type: TaskType, rule: ThresholdRule, n_labels: int) -> Choice:
    """From the labelled validation rows of one model.

    A temperature that runs off, as where they are all of one class, is not chosen.
    """
    nothing = (None,) * n_labels
    if task_type in ("regression", "survival"):
        return Choice(None, () if task_type == "survival" else nothing)
    if validation is None or not len(validation.label):
        return Choice(None, nothing, ("no validation rows, so neither temperature nor threshold",))
    prob, label = validation.prediction, validation.label
    known = np.isfinite(label)
    temperature: float | None = fit_temperature(prob[known], label[known])
    notes: list[str] = []
    if temperature in (1 / HOTTEST, HOTTEST):
        notes.append(f"temperature {temperature:g} is an end of the range: too few validation rows choose it")
        temperature = None
    if task_type == "multiclass":
        return Choice(temperature, (), tuple(notes))
    thresholds: list[float | None] = []
    for k, (score, truth) in enumerate(zip(_columns(prob), _columns(label), strict=True)):
        there = np.isfinite(truth)
        try:
            thresholds.append(choose_threshold(score[there], truth[there], rule))
        except ValueError as error:
            thresholds.append(None)
            notes.append(f"output {k}: {error}")
    return Choice(temperature, tuple(thresholds), tuple(notes))


def _columns(values: Array) -> list[Array]:
    return [values] if values.ndim == 1 else list(values.T)
