"""A report as plain text."""

from __future__ import annotations

import textwrap

from slices.training.data.report.contents import tables
from slices.training.data.report.model import Report
from slices.training.report.cells import Cell, Histogram, Share, Table

WIDTH = 110
BLOCKS = "▁▂▃▄▅▆▇█"


def report_text(report: Report) -> str:
    """The whole report, its warnings first."""
    warnings = [f"! {line}" for line in report.warnings] or ["Nothing stands out."]
    parts = ["Warnings", *(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in warnings)]
    return "\n".join([*parts, *(f"\n{_table(table)}" for table in tables(report))]) + "\n"


def _table(table: Table) -> str:
    rows = [table.columns, *(tuple(map(_cell, row)) for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i < table.words else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
        if any(row)
    ]
    note = [textwrap.fill(table.note, WIDTH)] if table.note else []
    return "\n".join([table.title, *note, *(lines if table.rows else [])])


def _cell(cell: Cell) -> str:
    if isinstance(cell, Share):
        return f"{cell.share:.1%}"
    return spark(cell.counts) if isinstance(cell, Histogram) else " ".join(cell.split())


def spark(counts: tuple[int, ...]) -> str:
    """Bars of text, the highest as high as one can be.

    >>> spark((0, 1, 4, 8))
    '▁▂▅█'
    """
    top = max(counts)
    return "".join(BLOCKS[round((len(BLOCKS) - 1) * count / top)] for count in counts)
