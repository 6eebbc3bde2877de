"""Estimates with their intervals, below each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from slices.training.evaluation.report.parts import OVERALL
from slices.training.evaluation.report.results import Estimate, Evaluation
from slices.training.evaluation.report.suites import COMPARED, LOWER_IS_BETTER
from slices.training.report.figure import Drawn
from slices.training.report.style import COLORS, MARKERS, QUIET, legend, named, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE = 0.24  # inches that a line takes
ALSO = {"binary": ("calibration_in_the_large",)}


class Mark(NamedTuple):
    """An interval on the line of ``label``, in the colour of ``model``."""

    label: str
    model: str
    estimate: float
    low: float
    high: float


def group_figures(evaluation: Evaluation) -> list[Drawn]:
    """One a metric: each group of each model beside all rows; none where there are no groups."""
    groups = [e for e in evaluation.estimates if e.grouping not in (OVERALL[0], "quantile")]
    metrics = (*COMPARED[evaluation.task_type][:2], *ALSO.get(evaluation.task_type, ()))
    return [
        _groups_in(metric, [e for e in groups if e.metric == metric], evaluation)
        for metric in metrics
        if any(e.metric == metric and np.isfinite(e.estimate) for e in groups)
    ]


def _groups_in(metric: str, groups: Sequence[Estimate], evaluation: Evaluation) -> Drawn:
    overall = [e for e in evaluation.estimates if (e.grouping, e.group, e.metric) == (*OVERALL, metric)]
    marks = [Mark(_label(e), e.model, e.estimate, e.low, e.high) for e in [*overall, *groups]]
    name = named(metric)
    direction = " (lower is better)" if metric in LOWER_IS_BETTER else ""
    caption = (
        f"Points: {name}{direction} of each group of test rows; bars: intervals. In brackets: patients. "
        "Groups differ by chance too: an interval that leaves out the value of all rows is a reason to look."
    )
    return _drawn(f"groups_{metric}", f"Groups: {name}", caption, name, marks)


def _label(estimate: Estimate) -> str:
    if (estimate.grouping, estimate.group) == OVERALL:
        return "all"
    return f"{estimate.grouping} {estimate.group} ({estimate.patients:,})"


def comparison_figures(evaluation: Evaluation) -> list[Drawn]:
    """One a metric: each pair of models."""
    figures = []
    for metric in dict.fromkeys(one.metric for one in evaluation.comparisons):
        marks = [
            Mark(f"{one.model}\nless {one.other}", "", one.difference, one.low, one.high)
            for one in evaluation.comparisons
            if one.metric == metric
        ]
        better = "left" if metric in LOWER_IS_BETTER else "right"
        caption = (
            f"Differences on the same rows and resamples, with intervals; to the {better} of 0 the first is "
            "better. "
            "Many comparisons: see the corrected p in the table."
        )
        title = f"Difference in {named(metric)}"
        figures.append(_drawn(f"difference_{metric}", title, caption, "difference", marks, at=0.0))
    return figures


def _drawn(
    name: str, title: str, caption: str, axis: str, marks: Sequence[Mark], at: float | None = None
) -> Drawn:
    """``at``: where a line is drawn for comparison; else at what the first mark says."""
    labels = list(dict.fromkeys(mark.label for mark in marks))
    models = list(dict.fromkeys(mark.model for mark in marks))
    crowded = max(1 + max(label.count("\n") for label in labels), 0.6 * len(models))
    height = 1.0 + LINE * len(labels) * crowded
    figure, (panel,) = new_figure(height=height)
    for number, model in enumerate(models):
        shift = 0.5 * ((number + 0.5) / len(models) - 0.5)
        of_model = [mark for mark in marks if mark.model == model]
        _plot(panel, of_model, [labels.index(mark.label) + shift for mark in of_model], number)
    if at is not None or len(models) == 1:
        panel.axvline(marks[0].estimate if at is None else at, **QUIET, linestyle=":")
    panel.set_yticks(range(len(labels)), labels)
    panel.set_ylim(len(labels) - 0.5, -0.5)
    panel.grid(visible=False, axis="y")
    panel.set_xlabel(axis)
    panel.locator_params(axis="x", nbins=5)
    if len(models) > 1:
        legend(figure, panel)
    return Drawn(name, title, caption, f"{title}. {_in_words(marks)}", figure)


def _plot(panel: Axes, marks: Sequence[Mark], places: Sequence[float], number: int) -> None:
    low, middle, high = (
        np.array([getattr(mark, of) for mark in marks]) for of in ("low", "estimate", "high")
    )
    reach = np.clip([middle - low, high - middle], 0, None)
    panel.errorbar(
        middle,
        places,
        xerr=reach,
        fmt=MARKERS[number % len(MARKERS)],
        color=COLORS[number % len(COLORS)],
        elinewidth=1.1,
        label=marks[0].model,
    )


def _in_words(marks: Sequence[Mark]) -> str:
    lines = (
        f"{' '.join(mark.label.split())}{f', {mark.model}' if mark.model else ''}: {mark.estimate:.3f} "
        f"[{mark.low:.3f}, {mark.high:.3f}]"
        for mark in marks
        if np.isfinite(mark.estimate)
    )
    return "; ".join(lines) + "."
