"""``configs/`` says what the dataclasses say, and nothing that nobody reads."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from slices.encoders import ENCODER_CONFIG_REGISTRY
from slices.ssl.factory import CONFIG_REGISTRY
from slices.training.benchmark.cells import BenchmarkConfig
from slices.training.compose import composed
from slices.training.config import (
    DescribeConfig,
    FineTuneConfig,
    PrepareConfig,
    PretrainConfig,
    TaskConfig,
    plain,
)
from slices.training.data.config import DataConfig
from slices.training.data.sources.base import SOURCE_CONFIG_REGISTRY
from slices.training.optim import OPTIMIZER_REGISTRY, SCHEDULER_REGISTRY

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
APPS: dict[str, Any] = {
    "prepare": PrepareConfig,
    "describe": DescribeConfig,
    "pretrain": PretrainConfig,
    "finetune": FineTuneConfig,
    "benchmark": BenchmarkConfig,
}
EMPTY = {"checkpoint", "none"}  # files that stand for "nothing chosen"
FROM_THE_RUN = {"batch_size", "dataset_dir", "encoder_path", "checkpoint_path"}


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml") if path.stem not in EMPTY)


def read(group: str, name: str) -> dict[str, Any]:
    content = OmegaConf.to_container(OmegaConf.load(CONFIGS / group / f"{name}.yaml"), resolve=False)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


COMPONENTS: list[tuple[str, Any]] = [
    ("encoder", ENCODER_CONFIG_REGISTRY),
    ("ssl", CONFIG_REGISTRY),
    ("optimizer", OPTIMIZER_REGISTRY),
    ("scheduler", SCHEDULER_REGISTRY),
]


@pytest.mark.parametrize(
    ("group", "registry", "name"),
    [(group, registry, name) for group, registry in COMPONENTS for name in options(group)],
)
def test_a_component_file_states_the_dataclass(group: str, registry: Any, name: str) -> None:
    written = read(group, name)
    assert written.pop("name") == name
    stated = plain(registry.find(name)())
    stated.pop("name", None)
    assert written == stated


@pytest.mark.parametrize("group", ["encoder", "ssl", "optimizer", "scheduler"])
def test_every_component_has_a_file(group: str) -> None:
    assert set(options(group)) >= set(dict(COMPONENTS)[group])


@pytest.mark.parametrize("name", options("data"))
def test_a_data_file_states_the_dataclass(name: str) -> None:
    written = read("data", name)
    assert written["source"] == {"name": name, **plain(SOURCE_CONFIG_REGISTRY.find(name)())}
    stated = plain(DataConfig(source={"name": name}, dataset_dir="anywhere"))
    for key in set(stated) - FROM_THE_RUN - {"source"}:
        assert written[key] == stated[key], key
    assert written.keys() == stated.keys()


@pytest.mark.parametrize("name", options("task"))
def test_a_task_file_states_every_option(name: str) -> None:
    written = read("task", name)
    assert written["task_name"] == (name if name != "from_data" else "???")
    assert written.keys() == {part.name for part in dataclasses.fields(TaskConfig)}
    own = {"task_name", "task_type", "per_step"}
    stated = plain(TaskConfig())
    assert {key: written[key] for key in written if key not in own} == {
        key: stated[key] for key in stated if key not in own
    }


@pytest.mark.parametrize("app", sorted(APPS))
def test_an_app_file_states_every_section(app: str) -> None:
    config = composed(OmegaConf.load(CONFIGS / f"{app}.yaml"), app)  # type: ignore[arg-type]
    assert config.keys() == {part.name for part in dataclasses.fields(APPS[app])}
    APPS[app].parse(config)


def config_classes() -> list[type]:
    components = [config for _, registry in COMPONENTS for config in registry.values()]
    sections = [part for app in APPS.values() for part in _nested(app)]
    return sorted({*components, *sections}, key=lambda cls: cls.__name__)


def _nested(cls: Any) -> set[type]:
    import typing

    found = {cls}
    for hint in typing.get_type_hints(cls).values():
        for part in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(part) and isinstance(part, type):
                found |= _nested(part)
    return found


def names_read() -> set[str]:
    """Every attribute that the sources of the four packages read, outside ``__post_init__``."""
    names: set[str] = set()
    for path in ROOT.glob("packages/*/src/**/*.py"):
        tree = ast.parse(path.read_text())
        checks = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "__post_init__"]
        inside = {id(node) for check in checks for node in ast.walk(check)}
        names |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and id(n) not in inside}
    return names


@pytest.mark.parametrize("cls", config_classes(), ids=lambda cls: cls.__name__)
def test_every_option_is_read_by_somebody(cls: Any) -> None:
    read_by_name = names_read() | {"data", "task", "pretrain", "finetune"}  # the recipe reads these by name
    unread = {part.name for part in dataclasses.fields(cls)} - read_by_name - {"name"}
    assert not unread, f"{cls.__name__} has options that nothing reads: {unread}"
