"""A folder of results belongs to one recipe: another one's cells are never taken for its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from slices.training.benchmark.cells import BenchmarkConfig
from slices.training.config import plain

SETTINGS = ("data", "task", "pretrain", "finetune")  # what every cell depends on


def same_recipe(config: BenchmarkConfig) -> None:
    """Notes the recipe in a new folder; in one that has results, compares.

    Raises:
        ValueError: the folder's results were made with other settings; those that differ are named.
    """
    path = Path(config.folder) / "recipe.json"
    recipe = {name: plain(getattr(config, name)) for name in SETTINGS}
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        differing = sorted(_differences(before, recipe))
        if differing:
            raise ValueError(
                f"{config.folder} holds results of another recipe ({'; '.join(differing)}): "
                "use another folder=..., or the settings of before"
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(recipe, indent=2), encoding="utf-8")


def _differences(before: Any, now: Any, where: str = "") -> list[str]:
    if isinstance(before, dict) or isinstance(now, dict):
        before, now = before or {}, now or {}
        keys = sorted(before.keys() | now.keys())
        parts = [_differences(before.get(key), now.get(key), f"{where}.{key}".strip(".")) for key in keys]
        return [line for part in parts for line in part]
    return [] if before == now else [f"{where}: {before!r} then, {now!r} now"]
