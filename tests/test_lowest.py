"""``hatch run lowest:run`` tests what the packages state as their lowest versions."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
UNTESTED = {  # torch: see hatch.toml; others not installed
    *("torch", "tensorboard", "wandb", "mlflow-skinny", "alembic", "huggingface-hub", "umap-learn"),
}


def read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def bound(requirement: Requirement, operator: str) -> Version:
    (version,) = (spec.version for spec in requirement.specifier if spec.operator == operator)
    return Version(version)


def test_every_floor_is_tested() -> None:
    floors: dict[str, Version] = {}
    for path in ROOT.glob("packages/*/pyproject.toml"):
        project = read(path)["project"]
        extras = [line for lines in project.get("optional-dependencies", {}).values() for line in lines]
        for line in (*project["dependencies"], *extras):
            requirement = Requirement(line)
            if requirement.name in UNTESTED or requirement.name.startswith("slices-"):
                continue
            floor = bound(requirement, ">=")
            assert floors.setdefault(requirement.name, floor) == floor, (path, line)
    lines = read(ROOT / "hatch.toml")["envs"]["lowest"]["extra-dependencies"]
    pins = map(Requirement, (line for line in lines if "==" in line))  # others are of what these need in turn
    assert {pin.name: bound(pin, "==") for pin in pins} == floors
