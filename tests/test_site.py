"""The site of the docs: catalogues list what is registered, links lead somewhere, nothing is fetched."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import pytest

from slices.encoders import ENCODER_CONFIG_REGISTRY, ENCODER_REGISTRY, list_encoders
from slices.heads import list_heads
from slices.ssl import list_objectives

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def catalogue() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "hooks" / "catalogue.py"))


@pytest.mark.parametrize(
    ("package", "names"),
    [("encoders", list_encoders()), ("ssl", list_objectives()), ("heads", list_heads()), ("training", [])],
)
def test_a_catalogue_has_a_row_for_each_registered_part(
    catalogue: dict[str, Any], package: str, names: list[str]
) -> None:
    text = catalogue["of"](package)
    assert all(text.count(f"| [`{name}`][slices.{package}.") == 1 for name in names)


def test_a_part_without_a_line_on_when_to_use_it_is_refused(
    catalogue: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENCODER_REGISTRY, "unheard_of", ENCODER_REGISTRY["gru"])
    monkeypatch.setitem(ENCODER_CONFIG_REGISTRY, "unheard_of", ENCODER_CONFIG_REGISTRY["gru"])
    with pytest.raises(ValueError, match=r"when\.yaml: encoders: .*\['unheard_of'\]"):
        catalogue["of"]("encoders")


def test_passes_are_counted(catalogue: dict[str, Any]) -> None:
    """A masked objective encodes a stay once, two views twice, and a teacher sees it too."""
    lines = [line for line in catalogue["of"]("ssl").splitlines() if line.startswith("| [`")]
    rows = {line.split("`")[1]: line.split(" | ") for line in lines}
    assert [rows[name][2] for name in ("mae", "vicreg", "jepa", "byol")] == ["1", "2", "1 + 1", "2 + 2"]


class Page(HTMLParser):
    """The ids of a page, where its links lead, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        self.links += [found["href"]] if tag == "a" and "href" in found else []
        self.loads += [found[name] for name in ("src", "href") if tag != "a" and name in found]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as ``hatch run docs:build`` does, where a warning is an error."""
    pytest.importorskip("mkdocstrings", reason="hatch run docs:build installs what builds the site")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


@pytest.mark.slow
def test_no_link_of_the_site_leads_to_nowhere(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for link in page.links:
            target, fragment = urldefrag(unquote(link))
            if "://" in target or target.startswith("mailto:"):
                continue
            goal = (path.parent / target).resolve() if target else path
            goal = goal / "index.html" if goal.is_dir() else goal
            assert goal.is_file(), (path.name, link)
            assert not fragment or goal.suffix != ".html" or fragment in pages[goal].ids, (path.name, link)


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert not [resource for resource in page.loads if "//" in resource], path.name
    for sheet in site.rglob("*.css"):
        assert "url(http" not in sheet.read_text(encoding="utf-8"), sheet.name


@pytest.mark.slow
def test_docstrings_are_shown_as_meant(site: Path) -> None:
    for path in (site / "api").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "<blockquote>" not in text and ":class:" not in text and ":func:" not in text, path.name
