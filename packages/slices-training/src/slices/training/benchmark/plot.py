"""The league at a glance: over the share of the labels, and over what the models cost."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl

log = logging.getLogger(__name__)
LEAST_MINUTES = 1e-3
ROW = ("encoder", "objective", "adaptation", "transductive")
STYLES = ("-", "--", ":", "-.")


def plot_league(table: pl.DataFrame, folder: Path) -> list[Path]:
    """The plots that can be drawn: none without matplotlib (which is said)."""
    if find_spec("matplotlib") is None:
        log.warning("no plot: matplotlib is not installed: pip install 'slices-training[plots]'")
        return []
    paths = [plot_cost(table, folder)]
    return paths if table["labels"].n_unique() < 2 else [plot_label_efficiency(table, folder), *paths]


def plot_label_efficiency(table: pl.DataFrame, folder: Path) -> Path:
    """``label_efficiency.svg``: a panel a metric, a line a model with its 95 % interval, labels by logarithm.

    Args:
        table: as ``league`` gives it.
        folder: where to write.
    """
    from matplotlib.figure import Figure

    metrics = _metrics(table)
    models = table.select(ROW).unique(maintain_order=True).sort(ROW).rows()
    figure = Figure(figsize=(6 * len(metrics), 5), layout="constrained")
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    for panel, metric in zip(panels, metrics, strict=True):
        for number, model in enumerate(models):
            of_model = table.filter(*(pl.col(name) == value for name, value in zip(ROW, model, strict=True)))
            _draw(panel, of_model.sort("labels"), metric, number, _name(*model))
        shares = table["labels"].unique().sort().to_list()
        panel.set_xscale("log")
        panel.set_xticks(shares, [f"{100 * share:g} %" for share in shares], minor=False)
        panel.minorticks_off()
        panel.set(xlabel="share of the training labels", ylabel=metric.upper())
        panel.grid(alpha=0.3)
    return _written(figure, panels[0], folder / "label_efficiency.svg")


def plot_cost(table: pl.DataFrame, folder: Path) -> Path:
    """``quality_by_cost.svg``: a panel a metric and a share of the labels, a point a model.

    Across is the time of pretraining and adapting together, by logarithm; see ``Spent``.

    Args:
        table: as ``league`` gives it.
        folder: where to write.
    """
    from matplotlib.figure import Figure

    metrics, shares = _metrics(table), table["labels"].unique().sort().to_list()
    figure = Figure(figsize=(6 * len(metrics), 4.5 * len(shares)), layout="constrained")
    panels = figure.subplots(len(shares), len(metrics), squeeze=False)
    for line, share in zip(panels, shares, strict=True):
        rows = table.filter(labels=share)
        minutes = (rows["minutes"] + rows["shared_minutes"]).clip(LEAST_MINUTES).to_list()
        names = [_name(*row) for row in rows.select(ROW).rows()]
        for panel, metric in zip(line, metrics, strict=True):
            for number, (x, y, name) in enumerate(zip(minutes, rows[metric], names, strict=True)):
                panel.plot(x, y, "os^D"[number // 10 % 4], color=f"C{number % 10}", label=name)
            panel.set_xscale("log")
            panel.set(xlabel="minutes", ylabel=metric.upper(), title=f"{100 * share:g} % of the labels")
            panel.grid(alpha=0.3)
    return _written(figure, panels[0, 0], folder / "quality_by_cost.svg")


def _metrics(table: pl.DataFrame) -> list[str]:
    names = [name.removesuffix("_low") for name in table.columns if name.endswith("_low")]
    return [name for name in names if "_vs_" not in name]


def _written(figure: Any, panel: Any, path: Path) -> Path:
    """With the legend of a panel below."""
    from matplotlib import rc_context

    handles = panel.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=2, fontsize="small")
    with rc_context({"svg.fonttype": "none"}):  # words stay words
        figure.savefig(path, metadata={"Date": None})
    return path


def _draw(panel: Any, rows: pl.DataFrame, metric: str, number: int, name: str) -> None:
    labels, middle = rows["labels"].to_numpy(), rows[metric].to_numpy()
    low, high = (rows[f"{metric}_{side}"].to_numpy() for side in ("low", "high"))
    style = STYLES[number // 10 % len(STYLES)]
    (line,) = panel.plot(labels, middle, style, color=f"C{number % 10}", marker="o", markersize=3, label=name)
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
