"""A page that needs nothing else: no script, no font, no image from elsewhere. All text is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib.resources import files

from slices.training.report.cells import Cell, Histogram, Share, Table

WIDTH, HEIGHT, WIDEST = 120, 26, 12  # of a histogram, and of a bar in it


def document(title: str, body: str) -> str:
    """The whole file; ``body`` is HTML already, the title is not."""
    style = files("slices.training.report").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )


def definitions(items: Mapping[str, str], kind: str) -> str:
    """A list of names and what they are, of a class that the style sheet knows."""
    pairs = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(what)}</dd></div>" for name, what in items.items()
    )
    return f'<dl class="{kind}">{pairs}</dl>'


def table_html(table: Table, level: int = 2) -> str:
    """A section with its heading of a level; what is wider than the page scrolls."""
    title = escape(table.title)
    heading = f"<h{level}>{title}</h{level}>" + (f"<p>{escape(table.note)}</p>" if table.note else "")
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
