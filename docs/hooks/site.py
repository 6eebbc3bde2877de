"""What the site has besides the files of docs/: READMEs with catalogues, the examples, links to them."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import catalogue
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {  # pages, and the files elsewhere that they are made of
    "packages/encoders.md": "packages/slices-encoders/README.md",
    "packages/ssl.md": "packages/slices-ssl/README.md",
    "packages/heads.md": "packages/slices-heads/README.md",
    "packages/training.md": "packages/slices-training/README.md",
    "contributing.md": "CONTRIBUTING.md",
}
PAGES = {source: page for page, source in SOURCES.items()}
LANGUAGES = {".py": "python", ".sh": "bash", ".sbatch": "bash", ".toml": "toml"}
LINK = re.compile(r"\[([^]]+)\]\(([^)#:\s]+)(#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that are made of other files."""
    for page, source in SOURCES.items():
        text = (ROOT / source).read_text(encoding="utf-8") + catalogue.of(Path(page).stem)
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "examples.md", content=examples()))
    return files


def examples() -> str:
    """All files of examples/ on one page."""
    lines = ["# Examples", "", "The files of `examples/`; tests run them.", ""]
    for path in sorted((ROOT / "examples").rglob("*")):
        if path.suffix in LANGUAGES:
            name = path.relative_to(ROOT / "examples").as_posix()
            code = path.read_text(encoding="utf-8").rstrip()
            lines += [f"## `{name}` {{#{anchor(name)}}}", "", f"```{LANGUAGES[path.suffix]}", code, "```", ""]
    return "\n".join(lines)


def anchor(name: str) -> str:
    """Of an example on their page."""
    return re.sub(r"[\W_]+", "-", name)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links between docs/ and the other files lead to pages; where there is none, their text is left."""
    name = page.file.src_uri
    source = SOURCES.get(name, f"docs/{name}")

    def led(link: re.Match[str]) -> str:
        text, target, fragment = link.groups(default="")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if not (ROOT / path).exists():
            return link[0]  # no link to a file: mkdocs judges it
        goal = destination(path, fragment)
        return f"[{text}]({posixpath.relpath(goal, posixpath.dirname(name) or '.')})" if goal else text

    return LINK.sub(led, markdown)


def destination(path: str, fragment: str) -> str:
    """The page, from the site's root, that shows a file of the repository; "" where none does."""
    if path in PAGES:
        return PAGES[path] + fragment
    if path.startswith("docs/"):
        return path.removeprefix("docs/") + fragment
    if path.startswith("examples/") and Path(path).suffix in LANGUAGES:
        return f"examples.md#{anchor(path.removeprefix('examples/'))}"
    return ""
