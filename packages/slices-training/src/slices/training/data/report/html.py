"""A report as one page that needs nothing else: no script, no font, no image from elsewhere."""

from __future__ import annotations

from html import escape
from importlib.resources import files

from slices.training.data.report.cells import Cell, Histogram, Share, Table, number
from slices.training.data.report.contents import tables
from slices.training.data.report.model import Report

WIDTH, HEIGHT, WIDEST = 120, 26, 12  # of a histogram, and of a bar in it


def report_html(report: Report) -> str:
    """The whole report; whatever comes from the data is escaped."""
    style = files("slices.training.data.report").joinpath("report.css").read_text(encoding="utf-8")
    title = f"{escape(report.manifest.source['name'])}: what is in this dataset"
    body = "\n".join([_header(report, title), _warnings(report), *map(_table, tables(report))])
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )


def _header(report: Report, title: str) -> str:
    counts = report.manifest.counts | {"variables": len(report.variables), "tasks": len(report.tasks)}
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{number(n)}</dd></div>" for name, n in counts.items())
    return (
        f'<h1>{title}</h1>\n<p class="quiet">{escape(report.described)}</p>\n<dl class="counts">{items}</dl>'
    )


def _warnings(report: Report) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in report.warnings)
    said = f"<ul>{items}</ul>" if items else "<p>Nothing stands out.</p>"
    return f'<section class="warnings"><h2>Warnings</h2>{said}</section>'


def _table(table: Table) -> str:
    title = escape(table.title)
    heading = f"<h2>{title}</h2>" + (f"<p>{escape(table.note)}</p>" if table.note else "")
    if not table.rows:
        return f"<section>{heading}</section>"
    kinds = ["word" if i < table.words else "number" for i in range(len(table.columns))]
    head = "".join(
        f'<th scope="col" class="{kind}">{escape(name)}</th>' if name else "<td></td>"
        for kind, name in zip(kinds, table.columns, strict=True)
    )
    rows = "\n".join(_row(row, kinds) for row in table.rows)
    head = f"<thead><tr>{head}</tr></thead>" if any(table.columns) else ""
    return (
        f'<section>{heading}<div class="scroll" role="region" aria-label="{title}" tabindex="0">'
        f"<table>{head}\n<tbody>\n{rows}\n</tbody></table></div></section>"
    )


def _row(row: tuple[Cell, ...], kinds: list[str]) -> str:
    first, *rest = (_cell(cell) for cell in row)
    cells = "".join(f'<td class="{kind}">{cell}</td>' for kind, cell in zip(kinds[1:], rest, strict=True))
    return f'<tr><th scope="row">{first}</th>{cells}</tr>'


def _cell(cell: Cell) -> str:
    if isinstance(cell, Share):
        bar = (
            f'<span class="bar" aria-hidden="true"><span style="width:{100 * cell.share:.1f}%"></span></span>'
        )
        return f"{cell.share:.1%}{bar}"
    return _histogram(cell) if isinstance(cell, Histogram) else escape(cell)


def _histogram(histogram: Histogram) -> str:
    top, step = max(histogram.counts), min(WIDTH / len(histogram.counts), WIDEST)
    bars = "".join(
        f"M{i * step:.1f} {HEIGHT}v{-HEIGHT * count / top:.1f}h{step * 0.85:.1f}V{HEIGHT}z"
        for i, count in enumerate(histogram.counts)
        if count
    )
    what = escape(histogram.what)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="{what}"><title>{what}</title><path fill="currentColor" d="{bars}"/></svg>'
    )
