"""What any page of a report must be."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from slices.training.report.page import Page

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Reading(HTMLParser):
    """A page as its tags, the cells of its tables and its figures; tags must be balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.figures: list[dict[str, str]] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "img", "iframe", "object", "base"), tag
        self._see(tag, {name: value or "" for name, value in attrs})
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._see(tag, {name: value or "" for name, value in attrs})

    def _see(self, tag: str, given: dict[str, str]) -> None:
        assert not [name for name in given if name.startswith("on")]
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[name] for name in ("href", "src", "xlink:href") if name in given]
        if tag == "figure":
            self.figures.append({})
        elif tag == "svg" and "figure" in self.open:
            self.figures[-1] |= {name: given.get(name, "") for name in ("role", "aria-label")}
        elif tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or not data.strip():
            return
        if self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)
        elif self.open[-1] in ("figcaption", "h3") and "figure" in self.open:
            self.figures[-1][self.open[-1]] = data


def read_page(path: Path) -> Reading:
    """The page in a file, which needs nothing else and nobody's eyes."""
    text = path.read_text(encoding="utf-8")
    page = Reading(text)
    assert len(set(page.ids)) == len(page.ids)
    for link in [*page.links, *re.findall(r"url\(([^)]*)\)", text)]:
        assert link.startswith("#") and link[1:] in page.ids, link
    assert "@import" not in text
    assert set(re.findall(r"\w+://[^\"/]+", text)) <= {"http://www.w3.org"}  # names, which nobody fetches
    for figure in page.figures:
        assert figure["role"] == "img" and all(figure[name] for name in ("aria-label", "figcaption", "h3"))
    names = {file.stem for file in (path.parent / "figures").iterdir()}
    assert len(names) == len(page.figures)
    for name in names:
        png = (path.parent / "figures" / f"{name}.png").read_bytes()
        assert png.startswith(b"\x89PNG") and (path.parent / "figures" / f"{name}.svg").is_file()
    return page


def assert_labelled(page: Page) -> None:
    """Every axis of every figure says what it is, by a label or by words at its ticks."""
    for section in page.sections:
        for drawn in section.figures:
            panels = drawn.figure.axes
            assert panels[-1].get_xlabel(), drawn.name
            for panel in panels:
                words = [tick.get_text() for tick in panel.get_yticklabels()]
                assert panel.get_ylabel() or any(map(str.isalpha, "".join(words))), drawn.name
