"""The league at a glance: over the share of the labels, and over what the models cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from slices.training.report.figure import Drawn
from slices.training.report.style import COLORS, MARKERS, legend, named, new_figure, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAST_MINUTES = 1e-3
ROW = ("encoder", "objective", "adaptation", "transductive")


def league_figures(table: pl.DataFrame) -> list[Drawn]:
    """Of a table as ``league`` gives it: over cost and, with several shares of the labels, over these."""
    shares = table["labels"].unique().sort(descending=True)
    over_labels = [draw_label_efficiency(table)] if len(shares) > 1 else []
    return over_labels + [draw_cost(table.filter(labels=share), share) for share in shares]


def draw_label_efficiency(table: pl.DataFrame) -> Drawn:
    """``label_efficiency``: a panel a metric, a line a model with its 95 % interval, labels by logarithm."""
    metrics = _metrics(table)
    models = table.select(ROW).unique(maintain_order=True).sort(ROW).rows()
    shares = table["labels"].unique().sort().to_list()
    figure, panels = new_figure(len(metrics), height=3.4, sharex=True)
    for panel, metric in zip(panels, metrics, strict=True):
        for number, model in enumerate(models):
            of_model = table.filter(*(pl.col(name) == value for name, value in zip(ROW, model, strict=True)))
            _draw(panel, of_model.sort("labels"), metric, number, _name(*model))
        panel.set_xscale("log")
        panel.set_xticks(shares, [f"{100 * share:g} %" for share in shares], minor=False)
        panel.minorticks_off()
        panel.set_ylabel(named(metric))
    panels[-1].set_xlabel("share of the training labels")
    legend(figure, panels[0], columns=1)
    caption = "Lines: means over draws, seeds and folds; bands: 95 % intervals by patient."
    return Drawn("label_efficiency", "Quality over labels", caption, _in_words(table, metrics), figure)


def draw_cost(table: pl.DataFrame, share: float) -> Drawn:
    """``quality_by_cost_<percent>``, of the rows of a share of the labels: a panel a metric, a point a model.

    Across is the time of pretraining and adapting together, by logarithm; see ``Spent``.
    """
    from matplotlib.ticker import LogFormatter

    metrics, percent = _metrics(table), f"{100 * share:g}"
    figure, panels = new_figure(len(metrics), height=2.7, sharex=True)
    minutes = (table["minutes"] + table["shared_minutes"]).clip(LEAST_MINUTES).to_list()
    names = [_name(*row) for row in table.select(ROW).rows()]
    for panel, metric in zip(panels, metrics, strict=True):
        for number, (x, y, name) in enumerate(zip(minutes, table[metric], names, strict=True)):
            marker = MARKERS[number % len(MARKERS)]
            panel.plot(x, y, marker, color=COLORS[number % len(COLORS)], label=name)
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(LogFormatter())
        panel.xaxis.set_minor_formatter(LogFormatter())
        panel.set_ylabel(named(metric))
    panels[-1].set_xlabel("minutes")
    legend(figure, panels[0], columns=1)
    title = f"Quality over cost: {percent} % of the labels"
    caption = "Minutes of pretraining and adapting together: of the processor, or with a GPU elapsed."
    return Drawn(f"quality_by_cost_{percent}", title, caption, _in_words(table, metrics), figure)


def _in_words(table: pl.DataFrame, metrics: list[str]) -> str:
    lines = (
        f"{_name(*(row[name] for name in ROW))} with {100 * row['labels']:g} % of the labels: "
        + ", ".join(f"{named(metric)} {row[metric]:.3f}" for metric in metrics)
        for row in table.iter_rows(named=True)
    )
    return "; ".join(lines) + "."


def _metrics(table: pl.DataFrame) -> list[str]:
    names = [name.removesuffix("_low") for name in table.columns if name.endswith("_low")]
    return [name for name in names if "_vs_" not in name]


def _draw(panel: Axes, rows: pl.DataFrame, metric: str, number: int, name: str) -> None:
    labels, middle = rows["labels"].to_numpy(), rows[metric].to_numpy()
    low, high = (rows[f"{metric}_{side}"].to_numpy() for side in ("low", "high"))
    (line,) = panel.plot(labels, middle, marker="o", label=name, **series(number))
    panel.fill_between(labels, low, high, color=line.get_color(), alpha=0.12, linewidth=0)


def _name(encoder: str, objective: str, adaptation: str, is_transductive: bool = False) -> str:
    """
    >>> _name("gru", "none", "finetune"), _name("lightgbm", "baseline", "baseline")
    ('gru, from scratch, finetune', 'lightgbm')
    >>> _name("mix", "blend", "blend", True)
    'mix (transductive)'
    """
    mark = " (transductive)" if is_transductive else ""
    if objective == adaptation:  # a baseline, or a blend
        return f"{encoder}{mark}"
    return f"{encoder}, {'from scratch' if objective == 'none' else objective}{mark}, {adaptation}"
