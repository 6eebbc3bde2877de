"""A figure of a report, and what it says to those who do not see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawn:
    """One figure.

    Attributes:
        name: of its files, without an ending, e.g. ``calibration``.
        title: a few words.
        caption: what is drawn, of whom and how many, and what to look for.
        alt: the same figure in words and numbers, for a screen reader.
        figure: axes labelled, with units.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure
