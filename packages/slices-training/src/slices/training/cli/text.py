"""Plain text for a terminal, and for who reads it by a program."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence


def columns(rows: Iterable[Sequence[str]], indent: int = 0) -> str:
    """Rows of equal length as aligned lines.

    >>> print(columns([("a", "one"), ("bcd", "two")]))
    a    one
    bcd  two
    """
    rows = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(" " * indent + line for line in padded)


def explained(rows: Iterable[tuple[str, str]]) -> str:
    """Names and what is said of them; what is too long for a terminal goes on below itself."""
    rows = list(rows)
    left = max((len(name) for name, _ in rows), default=0) + 2
    width = max(shutil.get_terminal_size().columns, left + 20) if sys.stdout.isatty() else sys.maxsize
    fill = textwrap.TextWrapper(width, subsequent_indent=" " * left, break_long_words=False)
    return "\n".join(fill.fill(name.ljust(left) + printable(text)) for name, text in rows)


def printable(text: str) -> str:
    """Without what a terminal would obey: the text may be from a stranger's file.

    >>> printable("a\\x1b[31mb")
    'a?[31mb'
    """
    return "".join(sign if sign.isprintable() else "?" for sign in text)
