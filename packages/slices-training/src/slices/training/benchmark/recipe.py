"""A folder of results belongs to one recipe: another one's cells are never taken for its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from filelock import FileLock
from omegaconf import DictConfig, OmegaConf

from slices.training.benchmark.cells import cells, kinds
from slices.training.benchmark.config import BenchmarkConfig
from slices.training.benchmark.rows import BASELINE, NONE
from slices.training.benchmark.work import finetune_config, pretrain_config
from slices.training.config import plain
from slices.training.data.store import Manifest

FORMAT = 2  # of recipe.json


def same_recipe(config: BenchmarkConfig) -> None:
    """Notes the recipe of every row in the config's folder, beside those of rows that were made there before.

    Raises:
        ValueError: the folder's results were made with other settings; those that differ are named.
    """
    path, recipe = Path(config.folder) / "recipe.json", recipe_of(config) | {"format": FORMAT}
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(".recipe.lock")):  # others may do a share of the work
        before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else recipe
        if before.get("format") != FORMAT:
            raise ValueError(f"{path} is of an older version of slices-training: use another folder=...")
        if differing := _differences(before, recipe):
            raise ValueError(
                f"{config.folder} holds results of another recipe ({'; '.join(differing)}): "
                "use another folder=..., or the settings of before (or delete the folder, if it holds none)"
            )
        recipe["rows"] = before["rows"] | recipe["rows"]
        partial = path.with_name(".recipe.json.partial")
        partial.write_text(json.dumps(recipe, indent=2), encoding="utf-8")
        partial.replace(path)


def recipe_of(config: BenchmarkConfig) -> dict[str, Any]:
    """What the cells depend on: data and task all of them, and each row all of its settings, defaults too."""
    rows: dict[str, dict[str, Any]] = {}
    for unit in kinds(config):
        if unit.objective == BASELINE:
            rows[unit.encoder] = {"baseline": config.registered(unit.encoder)}
            rows[unit.encoder] |= plain(config.baseline_options(unit.encoder))
            continue
        of_unit = f"{unit.encoder}+{unit.objective}"
        if unit.objective != NONE:
            rows[of_unit] = _settings(pretrain_config(config, unit))
            rows[of_unit]["transductive"] = unit.objective in config.transductive
        for cell in cells(config, unit):
            if cell.draw == 0:
                row = f"{of_unit}+{cell.adaptation}+{cell.fraction:g}"
                rows[row] = _settings(finetune_config(config, cell, None))
                if (members := config.members(cell)) > 1:
                    rows[row]["members"] = members
    directory = Path(config.data.dataset_dir)
    dataset = Manifest.read(directory).fingerprint if directory.exists() else None
    return {"data": plain(config.data), "dataset": dataset, "task": plain(config.task), "rows": rows}


def _settings(composed: DictConfig) -> dict[str, Any]:
    """The sections of an app's config that a row decides on."""
    sections = ("encoder", "ssl", "task", "training", "optimizer", "scheduler")
    settings: Any = OmegaConf.to_container(composed, resolve=True)
    return {name: settings[name] for name in sections if settings.get(name) is not None}


def _differences(before: Any, now: Any, where: str = "") -> list[str]:
    """Of what both have; of rows, of those that both have."""
    if isinstance(before, dict) or isinstance(now, dict):
        before, now = before or {}, now or {}
        names = before.keys() & now.keys() if where in ("", "rows") else before.keys() | now.keys()
        parts = [
            _differences(before.get(key), now.get(key), f"{where}.{key}".strip(".")) for key in sorted(names)
        ]
        return [line for part in parts for line in part]
    return [] if before == now else [f"{where}: {before!r} then, {now!r} now"]
