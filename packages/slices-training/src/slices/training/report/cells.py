"""What tables are made of, for text and HTML alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

UNKNOWN = "–"


class Share(NamedTuple):
    """A part of a whole: a number, and a bar."""

    share: float


class Histogram(NamedTuple):
    """Counts of bins; ``what`` says of what, for whoever does not see them."""

    counts: tuple[int, ...]
    what: str


Cell = str | Share | Histogram


class Table(NamedTuple):
    """A title, a sentence on how to read it, and rows whose first ``words`` cells are words, not numbers."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    words: int = 1


def count(n: int, least: int) -> str:
    """A number of stays, but that of a small group.

    >>> count(1234, 10), count(9, 10), count(0, 10)
    ('1,234', '<10', '0')
    """
    return f"<{least}" if 0 < n < least else number(n)


def number(value: float | None) -> str:
    """
    >>> number(1234567), number(0.000123), number(98.44), number(None)
    ('1,234,567', '0.000123', '98.44', '–')
    """
    if value is None:
        return UNKNOWN
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e12 else f"{value:.4g}"
