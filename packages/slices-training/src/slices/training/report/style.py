"""How figures look: alike, told apart by those who see few colours, on white paper and in the dark.

matplotlib is imported where something is drawn: without the extra everything else still works.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO, StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

    from slices.training.report.figure import Drawn

INK = "#1d2430"  # of words and axes: on a page it is the colour of the text around
# Okabe & Ito, "Color universal design" (2008), but for those too pale for paper or too dark for the night
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a7500", "#7f7f7f")
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v")
QUIET: dict[str, Any] = {"color": INK, "linewidth": 0.8, "alpha": 0.6}  # what others are compared with
WIDTH = 4.6  # inches: words are still read where a phone shows it
DPI = 200
SHORT = {"auroc": "AUROC", "auprc": "AUPRC", "min_se_ppv": "min(Se, +P)", "mae": "MAE", "rmse": "RMSE"}
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10.5,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10.5,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), INK
    ),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "axes.facecolor": "none",
    "svg.fonttype": "none",  # words stay words
    "text.parse_math": False,  # also those with a $
}


@contextmanager
def styled() -> Iterator[None]:
    """Within it figures are made as all others are, whatever the user's own settings are."""
    from matplotlib import rc_context, rcdefaults, rcParams

    with rc_context():
        rcdefaults()
        rcParams.update(STYLE)
        yield


def new_figure(n_panels: int = 1, *, height: float = 3.2, **layout: Any) -> tuple[Figure, list[Axes]]:
    """An empty figure with panels below each other; ``height`` is that of each on average, in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height * n_panels), dpi=DPI, layout="constrained")
    panels = figure.subplots(n_panels, 1, squeeze=False, **layout)[:, 0]
    return figure, list(panels)


def series(number: int) -> dict[str, Any]:
    """Colour and dashes of the ``number``-th line: many are told apart without colour."""
    return {"color": COLORS[number % len(COLORS)], "linestyle": DASHES[number % len(DASHES)]}


def shades() -> Colormap:
    """From nothing to much, on light and dark alike."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    return LinearSegmentedColormap.from_list("shades", [to_rgba(COLORS[0], alpha) for alpha in (0.0, 0.7)])


def legend(figure: Figure, panel: Axes, *, columns: int = 2) -> None:
    """What the lines of a panel are, below all of them; none where nothing has a name."""
    handles, names = panel.get_legend_handles_labels()
    if names:
        figure.legend(handles, names, loc="outside lower center", ncols=min(columns, len(names)))


def named(metric: str) -> str:
    """
    >>> named("auroc"), named("calibration_in_the_large")
    ('AUROC', 'calibration in the large')
    """
    return SHORT.get(metric, metric.replace("_", " "))


def lay_out(figure: Figure) -> None:
    """Finds room for everything, once and not for each file anew."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine("none")


def svg_of(drawn: Drawn) -> str:
    """An ``<svg>`` element, transparent, whose ink is ``currentColor``; its ids are no other figure's."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    text = StringIO()
    drawn.figure.set_facecolor("none")
    with rc_context({"svg.hashsalt": drawn.name}):  # savefig would draw twice
        FigureCanvasSVG(drawn.figure).print_svg(text, metadata={"Date": None})  # type: ignore[no-untyped-call]
    svg = text.getvalue()
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{drawn.name}-", svg)
    return svg.replace(INK, "currentColor")


def png_of(drawn: Drawn) -> bytes:
    """On white, for slides and papers."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    data = BytesIO()
    drawn.figure.set_facecolor("white")
    FigureCanvasAgg(drawn.figure).print_png(data, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return data.getvalue()
