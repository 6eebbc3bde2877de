"""Heat maps of a stay, curves over its time, and stays in a plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from slices.training.evaluation.bootstrap import Array
from slices.training.looking.grid import Grid
from slices.training.report.style import COLORS, INK, MARKERS, WIDTH, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HOURS = "hours since admission"
ROW_HEIGHT = 0.17  # inches
# Purple to orange is told apart by those who see few colours; the middle is seen on paper and in the dark.
PALE = "#c4c4c4"
DIVERGING = ("#5e3c99", PALE, "#e66101")
LONG = 20  # letters: two such names do not stand beside each other
DOTS: dict[str, Any] = {
    "s": 8,
    "alpha": 0.7,
    "linewidths": 0,
    "rasterized": True,
}  # thousands of shapes weigh


def heat_maps(
    panels: Mapping[str, Grid], rows: Sequence[str], unit: str, marked: Grid | None = None
) -> Figure:
    """Variables by time, below each other, on one scale around 0; ``marked``: a dot in cells of the first."""
    from matplotlib.colors import LinearSegmentedColormap

    figure, axes = new_figure(len(panels), height=0.75 + ROW_HEIGHT * len(rows), sharex=True)
    most = max(float(np.nanmax(np.abs(grid.values), initial=0.0)) for grid in panels.values()) or 1.0
    scale: Any = {
        "cmap": LinearSegmentedColormap.from_list("diverging", DIVERGING),
        "vmin": -most,
        "vmax": most,
    }
    for axis, (said, grid) in zip(axes, panels.items(), strict=True):
        cells = np.ma.masked_invalid(grid.values)
        image = axis.pcolormesh(grid.edges, np.arange(len(rows) + 1), cells, **scale)
        axis.set(title=said, yticks=np.arange(len(rows)) + 0.5)
        axis.set_yticklabels(rows, fontsize=7)
        axis.grid(visible=False)
        axis.invert_yaxis()
    if marked is not None:
        row, column = np.nonzero(~np.isnan(marked.values))
        middle = (marked.edges[:-1] + marked.edges[1:]) / 2
        axes[0].plot(middle[column], row + 0.5, ".", color=INK, markersize=2.5)
    axes[-1].set_xlabel(HOURS)
    figure.colorbar(image, ax=axes, location="bottom", label=unit, fraction=0.05, aspect=40)
    return figure


def over_time(hours: Array, values: Mapping[str, Array], unit: str, line: float | None) -> Figure:
    """What is predicted at each hour; ``line``: the threshold of an alarm."""
    figure, (axis,) = new_figure(height=2.6)
    for number, (said, value) in enumerate(values.items()):
        color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
        axis.plot(hours, value, color=color, marker=marker, label=said)
    if line is not None:
        axis.axhline(line, color=INK, linestyle=":", linewidth=0.9, label=f"threshold {line:.3g}")
    axis.set(xlabel=HOURS, ylabel=unit)
    legend(figure, axis)
    return figure


def in_the_plane(places: Array, value: Array, axes: tuple[str, str], said: str) -> Figure:
    """A dot a stay, at ``places (N, 2)``, coloured by ``value (N,)``; grey where it is NaN.

    The scale ends at the percentiles 1 and 99: one stay far out would leave no colours to the others.
    """
    figure, (axis,) = new_figure(height=WIDTH * 0.8)
    known = np.isfinite(value)
    axis.scatter(places[~known, 0], places[~known, 1], color=PALE, **DOTS)
    low, high = np.quantile(value[known], (0.01, 0.99)) if known.any() else (0, 1)
    scale: Any = {"c": value[known], "cmap": "viridis", "vmin": low, "vmax": high}
    points = axis.scatter(places[known, 0], places[known, 1], **scale, **DOTS)
    figure.colorbar(points, ax=axis, label=said, extend="both")
    axis.set(xlabel=axes[0], ylabel=axes[1])
    return figure


def among_classes(places: Array, classes: Mapping[str, Array], axes: tuple[str, str]) -> Figure:
    """A dot a stay, at ``places (N, 2)``, coloured by its class; ``classes``: the rows ``(N,)`` of each.

    The first lies below the others: the most frequent should not hide them.
    """
    figure, (axis,) = new_figure(height=WIDTH * 0.8)
    for number, (said, rows) in enumerate(classes.items()):
        color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
        axis.scatter(places[rows, 0], places[rows, 1], color=color, marker=marker, **DOTS)
        axis.scatter([], [], color=color, marker=marker, label=said)  # larger, for the legend
    axis.set(xlabel=axes[0], ylabel=axes[1])
    legend(figure, axis, columns=1 if max(map(len, classes)) > LONG else 2)
    return figure
