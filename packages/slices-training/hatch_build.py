"""Ships the repository's top-level ``configs/`` inside slices-training.

From a checkout the files are taken from ``<repo>/configs``; from an unpacked sdist, where that
directory does not exist, they already lie at ``src/slices/training/conf``. An editable install
gets none: ``slices.training.compose.config_dir()`` then reads ``<repo>/configs``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ConfigsBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name == "wheel" and version == "editable":
            return
        root = Path(self.root)
        if (root / "src" / "slices" / "training" / "conf").is_dir():
            return  # an unpacked sdist: already part of src/
        configs = root.parent.parent / "configs"
        if not (configs / "pretrain.yaml").is_file():
            raise FileNotFoundError(f"no configs at {configs}: build from a checkout or from an sdist")
        target = "slices/training/conf" if self.target_name == "wheel" else "src/slices/training/conf"
        build_data["force_include"][str(configs)] = target
