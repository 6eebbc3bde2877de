"""Figures of a multilabel task: each label told from the others, and how far its probabilities hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from slices.training.evaluation.bootstrap import Predictions
from slices.training.evaluation.report.curves import operating_curves
from slices.training.evaluation.report.parts import OVERALL
from slices.training.evaluation.report.results import Evaluation
from slices.training.report.binary import calibration, roc
from slices.training.report.figure import Drawn
from slices.training.report.small import enough_of

MOST_LABELS = 6  # lines that are told apart


def label_figures(evaluation: Evaluation, least: int) -> list[Drawn]:
    """Of each model ROC curves and calibration, a line a label; the most frequent labels, where many.

    Without labels of which either class has fewer patients than ``least``.
    """
    figures = []
    for number, (model, run) in enumerate(evaluation.tested.items()):
        labels = _shown(run, least)
        if not labels:
            continue
        of_labels = _as_models(evaluation, model, labels)
        drawn = (roc(of_labels, operating_curves(of_labels, least=least)), calibration(of_labels, least))
        figures += [
            replace(
                one,
                name=f"{one.name}_{number}",
                title=f"{one.title} by label: {model}",
                caption=f"{one.caption} Each label where it is known.",
            )
            for one in drawn
        ]
    return figures


def _shown(run: Predictions, least: int) -> dict[int, Predictions]:
    labels = {}
    for output in range(run.label.shape[1]):
        known = np.isfinite(run.label[:, output])
        rows, patients, label, prediction = (part[known] for part in run)
        one = Predictions(rows, patients, label[:, output], prediction[:, output])
        if all(enough_of(one.patient_id[one.label == value], least) for value in (0, 1)):
            labels[output] = one
    frequent = sorted(labels, key=lambda output: -labels[output].label.mean())[:MOST_LABELS]
    return {output: labels[output] for output in sorted(frequent)}


def _as_models(evaluation: Evaluation, model: str, labels: dict[int, Predictions]) -> Evaluation:
    """The labels of one model as the models of a binary task."""
    estimates = [
        one._replace(model=f"label {one.group}", grouping=OVERALL[0], group=OVERALL[1])
        for one in evaluation.estimates
        if (one.model, one.grouping) == (model, "label")
    ]
    tested = {f"label {output}": run for output, run in labels.items()}
    return evaluation._replace(task_type="binary", estimates=estimates, tested=tested)
