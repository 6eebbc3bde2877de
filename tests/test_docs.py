"""What README and docs say is run: Python as it stands, commands as far as composing their config."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from slices.encoders.factory import ENCODER_CONFIG_REGISTRY, ENCODER_REGISTRY
from slices.heads import TASK_HEAD_REGISTRY
from slices.ssl.base import CONFIG_REGISTRY, SSL_REGISTRY
from slices.training.apps.replay import named
from slices.training.compose import config_dir
from slices.training.data.definitions.base import DEFINITION_REGISTRY
from slices.training.data.sources.base import SOURCE_CONFIG_REGISTRY, SOURCE_REGISTRY
from slices.training.optim import OPTIMIZER_REGISTRY, SCHEDULER_REGISTRY

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(ROOT.glob("packages/*/README.md")),
]
REGISTRIES = [
    ENCODER_REGISTRY,
    ENCODER_CONFIG_REGISTRY,
    SSL_REGISTRY,
    CONFIG_REGISTRY,
    TASK_HEAD_REGISTRY,
    DEFINITION_REGISTRY,
    SOURCE_REGISTRY,
    SOURCE_CONFIG_REGISTRY,
    OPTIMIZER_REGISTRY,
    SCHEDULER_REGISTRY,
]


@pytest.fixture
def registries_as_they_were() -> Iterator[None]:
    """What a page registers is gone after it."""
    before = [set(registry) for registry in REGISTRIES]
    yield
    for registry, names in zip(REGISTRIES, before, strict=True):
        for name in set(registry) - names:
            registry.pop(name)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("registries_as_they_were")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "example.py").write_text("\n".join(blocks(page, "python")))
    runpy.run_path("example.py", run_name="example")


def commands() -> list[Any]:
    found: list[Any] = []
    for page in PAGES:
        for app, arguments in re.findall(r"hatch run train:(\w+)([^\n`]*)", page.read_text()):
            arguments = arguments.replace("<time>", "then")
            words = shlex.split(arguments, comments=True)
            if "--multirun" in words:  # the first of what is swept over
                words = [re.sub(r"=(\w+),.*", r"=\1", word) for word in words]
            words = [word for word in words if not word.startswith("--")]
            command = (page.name, app, named(words) if app in ("replay", "look") else words)
            quick = page == ROOT / "README.md"
            found.append(command if quick else pytest.param(*command, marks=pytest.mark.slow))
    return found


@pytest.mark.parametrize(("page", "app", "words"), commands(), ids=lambda value: str(value))
def test_commands_compose(page: str, app: str, words: list[str]) -> None:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        compose(app, overrides=words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
