"""Figures of a survival task: what is predicted to happen by when, and what did."""

from __future__ import annotations

import numpy as np

from slices.training.evaluation.bootstrap import Array, Predictions
from slices.training.evaluation.report.results import Evaluation
from slices.training.evaluation.survival import cumulative_incidence, label_of_event
from slices.training.report.figure import Drawn
from slices.training.report.small import enough_of, patients_in
from slices.training.report.style import COLORS, MARKERS, legend, new_figure

THIRDS = ("low", "middle", "high")


def survival_figures(evaluation: Evaluation, least: int) -> list[Drawn]:
    """Of each model and event, the cumulative incidence in thirds of what it predicts."""
    assert evaluation.until is not None
    n_events = next(iter(evaluation.tested.values())).prediction.shape[1]
    if evaluation.patients < least * len(THIRDS):
        return []
    return [
        _incidence(evaluation.until, model, run, event, least, f"incidence_{number}_{event}", n_events)
        for number, (model, run) in enumerate(evaluation.tested.items())
        for event in range(1, n_events + 1)
    ]


def _incidence(
    until: Array, model: str, run: Predictions, event: int, least: int, name: str, n_events: int
) -> Drawn:
    predicted, label = run.prediction[:, event - 1], label_of_event(run.label, event)
    thirds = np.array_split(np.argsort(predicted[:, -1], kind="stable"), len(THIRDS))
    figure, (panel,) = new_figure(height=3.6)
    said = []
    for number, (third, rows) in enumerate(zip(THIRDS, thirds, strict=True)):
        if not enough_of(run.patient_id[rows], least):
            continue
        seen = np.array([_looked_at(run, rows, hour) >= least for hour in until])
        observed, mean = cumulative_incidence(label[rows], until), predicted[rows].mean(0)
        color, marker = COLORS[number], MARKERS[number]
        panel.plot([0, *until], [0, *mean], color=color, linestyle="--", label=f"{third}, predicted")
        hours, rates = [0, *until[seen]], [0, *observed[seen]]
        panel.plot(hours, rates, color=color, marker=marker, label=f"{third}, observed")
        if seen.any():
            last = np.flatnonzero(seen)[-1]
            said.append(f"{third} third by {until[last]:g} h: {mean[last]:.1%} {observed[last]:.1%}")
    panel.set(
        xlabel="hours since the prediction", ylabel="cumulative incidence", xlim=(0, None), ylim=(0, None)
    )
    legend(figure, panel)
    title = f"Incidence: {model}" + (f", event {event}" if n_events > 1 else "")
    caption = (
        f"{len(label):,} test rows of {patients_in(run.patient_id):,} patients in thirds of the predicted "
        "incidence. Observed: by Aalen & Johansen (1978), which allows for the censored and for other "
        f"events; not drawn where fewer than {least} patients are still looked at."
    )
    return Drawn(name, title, caption, f"{title}. Predicted and observed, {'; '.join(said)}.", figure)


def _looked_at(run: Predictions, rows: Array, hour: float) -> int:
    """Patients among these rows to whom nothing has happened before that hour, and who are still seen."""
    return patients_in(run.patient_id[rows][run.label[rows, 0] >= hour])
