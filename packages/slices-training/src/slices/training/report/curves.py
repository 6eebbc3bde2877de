"""Curves over epochs as figures."""

from __future__ import annotations

import math
from collections.abc import Mapping

from slices.training.report.figure import Drawn
from slices.training.report.logs import Curve
from slices.training.report.style import legend, new_figure, series

FEW = 40  # points, each of which is marked


def draw_curves(name: str, title: str, caption: str, panels: Mapping[str, Mapping[str, Curve]]) -> Drawn:
    """A panel for each label of a vertical axis, in it a line for each name."""
    figure, axes = new_figure(len(panels), height=3.1 if len(panels) == 1 else 1.7, sharex=True)
    for panel, (label, curves) in zip(axes, panels.items(), strict=True):
        for number, (line, curve) in enumerate(curves.items()):
            marker = "o" if len(curve.x) <= FEW else None
            panel.plot(curve.x, curve.y, marker=marker, label=line, **series(number))
        panel.set_ylabel(label)
    axes[-1].set_xlabel("epochs")
    axes[-1].locator_params(axis="x", integer=True)
    most = max(axes, key=lambda panel: len(panel.lines))
    if len(most.lines) > 1:
        legend(figure, most)
    return Drawn(name, title, caption, alt=f"{title}. {_in_words(panels)}", figure=figure)


def _in_words(panels: Mapping[str, Mapping[str, Curve]]) -> str:
    """Where each line begins and ends, and the extremes between."""
    said = []
    for label, curves in panels.items():
        for line, (x, y) in curves.items():
            name = label if len(curves) == 1 else f"{label}, {line}"
            finite = [value for value in y if value is not None and math.isfinite(value)]
            if not finite:
                continue
            ends = f"{finite[0]:.3g} after {x[0]:.3g} epochs, {finite[-1]:.3g} after {x[-1]:.3g}"
            said.append(f"{name}: {ends}, between {min(finite):.3g} and {max(finite):.3g}.")
    return " ".join(said)
