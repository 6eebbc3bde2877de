"""What the site has besides the files of docs/: READMEs with catalogues, the examples, links to them."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import catalogue
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("encoders", "ssl", "heads", "training")
COMING = {"REPORT_GUIDE.md", "COMMAND_LINE.md"}  # pages that the navigation has a place for
LANGUAGES = {".py": "python", ".sh": "bash", ".sbatch": "bash", ".toml": "toml"}


def on_config(config: Any) -> Any:
    """Leaves out of the navigation what is not written yet."""
    absent = {name for name in COMING if not (ROOT / "docs" / name).exists()}
    for section in config.nav:
        for title, pages in section.items():
            if isinstance(pages, list):
                section[title] = [page for page in pages if not absent & set(page.values())]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that are made of other files."""
    for name in PACKAGES:
        readme = (ROOT / "packages" / f"slices-{name}" / "README.md").read_text(encoding="utf-8")
        files.append(File.generated(config, f"packages/{name}.md", content=readme + catalogue.of(name)))
    files.append(File.generated(config, "examples.md", content=examples()))
    return files


def examples() -> str:
    """All files of examples/ on one page."""
    found = [path for path in sorted((ROOT / "examples").rglob("*")) if path.suffix in LANGUAGES]
    shown = [
        f"## {name} {{#{anchor(name)}}}\n\n```{LANGUAGES[path.suffix]}\n{path.read_text().rstrip()}\n```\n"
        for path in found
        if (name := path.relative_to(ROOT / "examples").as_posix())
    ]
    return "\n".join(["# Examples\n\nThe files of `examples/`; tests run them.\n", *shown])


def anchor(name: str) -> str:
    """Of an example on their page."""
    return re.sub(r"\W+", "-", name)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to files outside of docs/ lead to their pages; where there is none, their text is left."""
    name = page.file.src_uri
    package = re.fullmatch(r"packages/(\w+)\.md", name)
    source = f"packages/slices-{package[1]}/README.md" if package else f"docs/{name}"

    def led(link: re.Match[str]) -> str:
        text, target, fragment = link.groups()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path.startswith("docs/") and not package:
            return link[0]
        if not (ROOT / path).exists():
            return link[0]
        goal = destination(path, fragment or "")
        return f"[{text}]({posixpath.relpath(goal, posixpath.dirname(name) or '.')})" if goal else text

    return re.sub(r"\[([^]]+)\]\(([^)#:\s]+)(#[^)]*)?\)", led, markdown)


def destination(path: str, fragment: str) -> str:
    """The page, from the site's root, that shows a file of the repository; "" where none does."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/") + fragment
    if readme := re.fullmatch(r"packages/slices-(\w+)(/README\.md)?", path):
        return f"packages/{readme[1]}.md{fragment}"
    if path.startswith("examples/") and Path(path).suffix in LANGUAGES:
        return f"examples.md#{anchor(path.removeprefix('examples/'))}"
    return "examples.md" if path == "examples" else ""
