"""A page of figures and tables, and its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from slices.training.report.cells import Table
from slices.training.report.figure import Drawn
from slices.training.report.html import definitions, document, table_html
from slices.training.report.style import lay_out, png_of, svg_of

FILE, FIGURES = "report.html", "figures"


@dataclass(frozen=True)
class Section:
    """Under a heading and a few words, figures and then tables."""

    title: str
    note: str = ""
    figures: tuple[Drawn, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Page:
    """A run. ``facts`` are what it depends on, by name; ``notes`` what a reader should know first."""

    title: str
    facts: Mapping[str, str]
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = field(default=())


def write_page(page: Page, folder: Path) -> Path:
    """``report.html``, and each figure as ``figures/<name>.png`` and ``.svg``; gives the first.

    Raises:
        ValueError: two figures have one name.
    """
    figures = [drawn for section in page.sections for drawn in section.figures]
    if twice := [name for name, n in Counter(drawn.name for drawn in figures).items() if n > 1]:
        raise ValueError(f"two figures are named {twice[0]}")
    for drawn in figures:
        lay_out(drawn.figure)
    drawings = {drawn.name: svg_of(drawn) for drawn in figures}
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    for drawn in figures:
        (folder / FIGURES / f"{drawn.name}.svg").write_text(drawings[drawn.name], encoding="utf-8")
        (folder / FIGURES / f"{drawn.name}.png").write_bytes(png_of(drawn))
    path = folder / FILE
    path.write_text(page_html(page, drawings), encoding="utf-8")
    return path


def page_html(page: Page, drawings: Mapping[str, str]) -> str:
    """``drawings``: the ``<svg>`` of each figure, by name."""
    head = f"<h1>{escape(page.title)}</h1>\n{definitions(page.facts, 'facts')}"
    notes = "".join(f"<li>{escape(note)}</li>" for note in page.notes)
    said = f'<section class="warnings"><h2>Notes</h2><ul>{notes}</ul></section>' if notes else ""
    sections = (_section(section, drawings) for section in page.sections)
    return document(page.title, "\n".join([head, said, *sections]))


def _section(section: Section, drawings: Mapping[str, str]) -> str:
    note = f"<p>{escape(section.note)}</p>" if section.note else ""
    parts = [f"<section><h2>{escape(section.title)}</h2>{note}"]
    if section.figures:
        figures = _lines(_figure(drawn, drawings[drawn.name]) for drawn in section.figures)
        parts.append(f'<div class="figures">\n{figures}\n</div>')
    return _lines([*parts, *(table_html(table, level=3) for table in section.tables), "</section>"])


def _figure(drawn: Drawn, svg: str) -> str:
    said = f'<svg role="img" aria-label="{escape(drawn.alt)}" '
    drawing = svg.replace("<svg ", said, 1)
    caption = f"<figcaption>{escape(drawn.caption)}</figcaption>"
    return f"<figure><h3>{escape(drawn.title)}</h3>\n{drawing}{caption}</figure>"


def _lines(parts: Iterable[str]) -> str:
    return "\n".join(parts)
