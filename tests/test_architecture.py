"""The arrows of dependency, and what three packages must have alike."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("encoders", "ssl", "heads")
FORBIDDEN = ("lightning", "hydra", "omegaconf", "torchmetrics", "numpy", "polars")


def sources(part: str) -> list[Path]:
    return sorted((ROOT / f"packages/slices-{part}/src/slices/{part}").rglob("*.py"))


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("part", PARTS)
def test_no_package_imports_a_sibling_or_a_trainer(part: str) -> None:
    siblings = [f"slices.{other}" for other in (*PARTS, "training") if other != part]
    for path in sources(part):
        for name in imports(path):
            assert not name.startswith((*siblings, *FORBIDDEN)), f"{path.name} imports {name}"


def test_slices_is_an_implicit_namespace() -> None:
    assert not list(ROOT.glob("packages/*/src/slices/__init__.py"))


def test_the_registry_file_is_the_same_three_times() -> None:
    texts = {(ROOT / f"packages/slices-{part}/src/slices/{part}/registry.py").read_text() for part in PARTS}
    assert len(texts) == 1


def test_no_package_knows_a_concrete_encoder() -> None:
    """The trainer works with any encoder: it names none, but for the default of training from scratch."""
    for part in ("ssl", "heads", "training"):
        for path in sources(part):
            text = path.read_text()
            for name in ("TransformerEncoder", "GRUEncoder", "LSTMEncoder", "LinearEncoder"):
                assert name not in text, f"{path.name} names {name}"
