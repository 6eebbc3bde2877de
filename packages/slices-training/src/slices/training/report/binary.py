"""Figures of a binary task: discrimination, calibration, and what a threshold is worth."""

from __future__ import annotations

import numpy as np
import polars as pl

from slices.training.evaluation.bootstrap import Array, Predictions
from slices.training.evaluation.report.curves import decision_curves, operating_curves
from slices.training.evaluation.report.parts import OVERALL
from slices.training.evaluation.report.results import Evaluation
from slices.training.report.cells import Table
from slices.training.report.figure import Drawn
from slices.training.report.small import bins_of_enough, enough_of, rows_shown
from slices.training.report.style import QUIET, legend, new_figure, series

BARS = 20


def binary_figures(evaluation: Evaluation, least: int) -> list[Drawn]:
    """All of them; none where either class has fewer patients than ``least``."""
    label = next(iter(evaluation.tested.values())).label
    patients = next(iter(evaluation.tested.values())).patient_id
    if not all(enough_of(patients[label == one], least) for one in (0, 1)):
        return []
    points = operating_curves(evaluation, least=least)
    return [
        roc(evaluation, points),
        _precision_recall(evaluation, points, float(label.mean())),
        calibration(evaluation, least),
        _decision(evaluation, least),
    ]


def roc(evaluation: Evaluation, points: pl.DataFrame) -> Drawn:
    figure, (panel,) = new_figure(height=3.9)
    for number, name in enumerate(evaluation.tested):
        of_model = points.filter(model=name)
        x, y = 1 - of_model["specificity"].to_numpy(), of_model["sensitivity"].to_numpy()
        label = _with_score(evaluation, name, "auroc")
        panel.plot([0, *x, 1], [0, *y, 1], label=label, clip_on=False, **series(number))
    panel.plot([0, 1], [0, 1], **QUIET, linestyle=":")
    panel.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    legend(figure, panel, columns=1)
    caption = f"{_whom(evaluation)} {_steps(points)} Dotted: chance. Legend: AUROC with its interval."
    return Drawn("roc", "ROC curve", caption, _alt(evaluation, "ROC curve", "auroc"), figure)


def _precision_recall(evaluation: Evaluation, points: pl.DataFrame, prevalence: float) -> Drawn:
    figure, (panel,) = new_figure(height=3.9)
    for number, name in enumerate(evaluation.tested):
        of_model = points.filter(model=name)
        x, y = [*of_model["sensitivity"], 1.0], [*of_model["ppv"], prevalence]
        label = _with_score(evaluation, name, "auprc")
        panel.plot(x, y, label=label, clip_on=False, **series(number))
    panel.axhline(prevalence, **QUIET, linestyle=":")
    panel.set(
        xlabel="sensitivity (recall)", ylabel="PPV (precision)", xlim=(0, 1), ylim=(0, 1), aspect="equal"
    )
    legend(figure, panel, columns=1)
    caption = (
        f"{_whom(evaluation)} {_steps(points)} Dotted: the prevalence, {prevalence:.1%}, as by chance. "
        "Legend: AUPRC with its interval."
    )
    alt = f"{_alt(evaluation, 'Precision-recall curve', 'auprc')} The prevalence is {prevalence:.1%}."
    return Drawn("precision_recall", "Precision and recall", caption, alt, figure)


def calibration(evaluation: Evaluation, least: int) -> Drawn:
    figure, (panel, below) = new_figure(2, height=2.3, sharex=True, height_ratios=(3, 1))
    said, top = [], 0.0
    for number, (name, run) in enumerate(evaluation.tested.items()):
        predicted, observed = bins_of_enough(run, least)
        top = max(top, *predicted, *observed)
        panel.plot(predicted, observed, marker="o", label=name, **series(number))
        pairs = ", ".join(f"{p:.1%} {o:.1%}" for p, o in zip(predicted, observed, strict=True))
        said.append(f"{name}: predicted and observed {pairs}.")
    top = min(1.0, 1.1 * top) or 1.0
    for number, run in enumerate(evaluation.tested.values()):
        edges = np.linspace(0, top, BARS + 1)
        below.stairs(_shares(run, edges, least), edges, **series(number))
    panel.plot([0, top], [0, top], **QUIET, linestyle=":")
    panel.set(ylabel="observed rate", ylim=(0, top))
    below.set(xlabel="predicted probability", ylabel="rows, %", xlim=(0, top))
    legend(figure, panel)
    caption = (
        f"{_whom(evaluation)} Above: mean prediction and observed rate in bins of equal mass; on the dotted "
        "line probabilities are what they say. Below: how predictions spread. Bins of fewer than "
        f"{least} patients are left out."
    )
    return Drawn("calibration", "Calibration", caption, f"Calibration. {' '.join(said)}", figure)


def _shares(run: Predictions, edges: Array, least: int) -> Array:
    """Rows in percent between the edges, 0 where they are of too few patients."""
    inside = np.where(run.prediction == edges[-1], edges[-2], run.prediction)  # the last bar holds its end
    place = np.digitize(inside, edges) - 1
    rows = np.bincount(place, minlength=len(edges))[: len(edges) - 1]
    enough = [enough_of(run.patient_id[place == bar], least) for bar in range(len(rows))]
    return np.where(enough, 100 * rows / len(place), 0)


def _decision(evaluation: Evaluation, least: int) -> Drawn:
    curves = decision_curves(evaluation).filter(~pl.col("scaled"))
    figure, (panel,) = new_figure(height=3.4)
    said, last = [], 0.1
    for number, (name, run) in enumerate(evaluation.tested.items()):
        of_model = curves.filter(model=name)
        threshold, benefit = of_model["threshold"].to_numpy(), of_model["net_benefit"].to_numpy()
        shown = np.array([enough_of(run.patient_id[run.prediction >= t], least) for t in threshold])
        panel.plot(threshold[shown], benefit[shown], label=name, **series(number))
        last = max(last, *threshold[shown & (benefit > 0)], 0)
        values = ", ".join(f"{benefit[t - 1]:.3f} at {t} %" for t in (5, 10, 20, 30) if shown[t - 1])
        said.append(f"{name}: net benefit {values or 'not shown'}.")
    everybody = curves.filter(model=name)
    panel.plot(everybody["threshold"], everybody["everybody"], label="treat everybody", **QUIET)
    panel.axhline(0, **QUIET, linestyle=":", label="treat nobody")
    top = float(run.label.mean())
    panel.set(xlabel="threshold probability", ylabel="net benefit", xlim=(0, min(1, last + 0.05)))
    panel.set_ylim(-0.3 * top, 1.15 * top)
    legend(figure, panel)
    caption = (
        f"{_whom(evaluation)} True alarms less false ones at the price that the threshold puts on them: a "
        "model is worth using where it is above both other lines. Not drawn where fewer than "
        f"{least} patients have an alarm."
    )
    return Drawn("decision_curve", "Decision curve", caption, f"Decision curve. {' '.join(said)}", figure)


def confusion_table(evaluation: Evaluation, least: int) -> Table:
    """The four cells of each model at the threshold that was chosen for it."""
    rows = []
    for name, run in evaluation.tested.items():
        threshold = evaluation.choices[name].thresholds[0]
        if threshold is None:
            continue
        alarm, positive = run.prediction >= threshold, run.label == 1
        cells = (alarm & positive, alarm & ~positive, ~alarm & positive, ~alarm & ~positive)
        rows.append((name, f"{threshold:.4g}", *(rows_shown(cell, run.patient_id, least) for cell in cells)))
    names = ("true positive", "false positive", "false negative", "true negative")
    note = f"Test rows at the threshold that was chosen on validation rows; <{least}: of so few patients."
    return Table("At the threshold", note, ("model", "threshold", *names), rows)


def _with_score(evaluation: Evaluation, model: str, metric: str) -> str:
    return f"{model}: {_score(evaluation, model, metric)}"


def _score(evaluation: Evaluation, model: str, metric: str) -> str:
    for one in evaluation.estimates:
        if (one.model, one.grouping, one.group, one.metric) == (model, *OVERALL, metric):
            return f"{one.estimate:.3f} [{one.low:.3f}, {one.high:.3f}]"
    raise KeyError(f"{model}: no {metric}")


def _alt(evaluation: Evaluation, title: str, metric: str) -> str:
    scores = "; ".join(_with_score(evaluation, name, metric) for name in evaluation.tested)
    return f"{title}. {metric.upper()} with interval: {scores}."


def _whom(evaluation: Evaluation) -> str:
    return f"{evaluation.rows:,} test rows of {evaluation.patients:,} patients."


def _steps(points: pl.DataFrame) -> str:
    return f"At {max(points['model'].value_counts()['count'])} thresholds."
