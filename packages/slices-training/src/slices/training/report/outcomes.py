"""Figures of tasks that are not binary: classes that are mistaken, values that are missed."""

from __future__ import annotations

import numpy as np

from slices.training.evaluation.bootstrap import Array, Predictions
from slices.training.evaluation.report.results import Evaluation
from slices.training.report.figure import Drawn
from slices.training.report.small import bins_of_enough, enough_of, rows_shown
from slices.training.report.style import QUIET, legend, new_figure, series, shades


def class_figures(evaluation: Evaluation, least: int) -> list[Drawn]:
    """Of each model, the likeliest class against the true one."""
    return [
        _confusion(name, number, run, least) for number, (name, run) in enumerate(evaluation.tested.items())
    ]


def _confusion(model: str, number: int, run: Predictions, least: int) -> Drawn:
    n_classes, guess = run.prediction.shape[1], run.prediction.argmax(1)
    figure, (panel,) = new_figure(height=3.9)
    shares = np.full((n_classes, n_classes), np.nan)
    said = []
    for true, guessed in np.ndindex(shares.shape):
        cell, of_class = (run.label == true) & (guess == guessed), run.label == true
        text = rows_shown(cell, run.patient_id, least)
        if enough_of(run.patient_id[cell], least):
            shares[true, guessed] = cell.sum() / of_class.sum()
        panel.text(guessed, true, text, ha="center", va="center")
        said.append(f"class {true} taken for {guessed}: {text}")
    edges = np.arange(n_classes + 1) - 0.5
    panel.pcolormesh(edges, edges, shares, cmap=shades(), vmin=0, vmax=1)
    panel.set(xlabel="likeliest class", ylabel="true class", aspect="equal")
    panel.invert_yaxis()
    panel.set_xticks(range(n_classes))
    panel.set_yticks(range(n_classes))
    panel.grid(visible=False)
    caption = f"Test rows of {model}; the stronger, the more of the true class. <{least}: of so few patients."
    title = f"Classes: {model}"
    return Drawn(f"classes_{number}", title, caption, f"{title}. {'; '.join(said)}.", figure)


def value_figures(evaluation: Evaluation, least: int) -> list[Drawn]:
    """Of each target, the mean that was observed over what was predicted."""
    n_targets = next(iter(evaluation.tested.values())).prediction[0].size
    return [_observed(evaluation, target, n_targets, least) for target in range(n_targets)]


def _observed(evaluation: Evaluation, target: int, n_targets: int, least: int) -> Drawn:
    figure, (panel,) = new_figure(height=3.6)
    said, ends = [], []
    for number, (name, run) in enumerate(evaluation.tested.items()):
        predicted, observed = bins_of_enough(_of_target(run, target), least)
        panel.plot(predicted, observed, marker="o", label=name, **series(number))
        ends += [*predicted, *observed]
        pairs = ", ".join(f"{p:.3g} {o:.3g}" for p, o in zip(predicted, observed, strict=True))
        said.append(f"{name}: predicted and observed {pairs}.")
    if ends:
        panel.plot([min(ends), max(ends)], [min(ends), max(ends)], **QUIET, linestyle=":")
    panel.set(xlabel="mean prediction", ylabel="mean observed")
    legend(figure, panel)
    title = "Predicted and observed" + (f": target {target}" if n_targets > 1 else "")
    caption = (
        f"{evaluation.rows:,} test rows of {evaluation.patients:,} patients, in bins of equal mass, of at "
        f"least {least} patients each. On the dotted line predictions are right on average."
    )
    return Drawn(f"observed_{target}", title, caption, f"{title}. {' '.join(said)}", figure)


def _of_target(run: Predictions, target: int) -> Predictions:
    if run.prediction.ndim == 1:
        return run
    known: Array = np.isfinite(run.label[:, target])
    row_id, patient_id, label, prediction = (part[known] for part in run)
    return Predictions(row_id, patient_id, label[:, target], prediction[:, target])
