"""A report as one page."""

from __future__ import annotations

from html import escape

from slices.training.data.report.contents import tables
from slices.training.data.report.model import Report
from slices.training.report.cells import number
from slices.training.report.html import definitions, document, table_html


def report_html(report: Report) -> str:
    """The whole report; whatever comes from the data is escaped."""
    title = f"{report.manifest.source['name']}: what is in this dataset"
    return document(
        title, "\n".join([_header(report, title), _warnings(report), *map(table_html, tables(report))])
    )


def _header(report: Report, title: str) -> str:
    counts = report.manifest.counts | {"variables": len(report.variables), "tasks": len(report.tasks)}
    items = definitions({name: number(n) for name, n in counts.items()}, "counts")
    return f'<h1>{escape(title)}</h1>\n<p class="quiet">{escape(report.described)}</p>\n{items}'


def _warnings(report: Report) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in report.warnings)
    said = f"<ul>{items}</ul>" if items else "<p>Nothing stands out.</p>"
    return f'<section class="warnings"><h2>Warnings</h2>{said}</section>'
