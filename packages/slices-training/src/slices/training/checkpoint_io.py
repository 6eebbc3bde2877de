"""Lightning's checkpoints: written whole or not at all, and believed only as far as they are checked."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins.io import TorchCheckpointIO

from slices.encoders.archives import read_archive
from slices.encoders.files import brief
from slices.encoders.plain import require_plain
from slices.encoders.weights import no_larger_than, require_finite, require_sizes

KINDS = {"epoch": int, "global_step": int, "state_dict": OrderedDict, "loops": dict}
PORTABLE = ("encoder", "ssl", "task", "training", "optimizer", "scheduler", "seed")  # of a module's config
SIZED = ("encoder", "ssl", "task")
M = TypeVar("M", bound=LightningModule)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes to disk, then renames: a kill leaves the old file or the new one."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """Raises ``ValueError`` for a damaged or foreign file, naming it."""
        read_checkpoint(path)
        return super().load_checkpoint(path, map_location, weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        """A file, that is: a checkpoint says itself which ones it replaces, and Lightning removes folders."""
        if Path(path).suffix == ".ckpt" and Path(path).is_file():
            super().remove_checkpoint(path)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a Lightning checkpoint holds, its tensors mapped from the file.

    Raises:
        ValueError: it is damaged, or no such checkpoint; names the file.
    """
    try:
        held = read_archive(Path(path))
        wrong = [key for key, kind in KINDS.items() if not isinstance(held[key], kind)]
        if wrong:
            raise ValueError(f"{', '.join(wrong)} is not what Lightning writes")
    except Exception as error:  # of a damaged file, the reader raises whatever it stumbles over
        raise ValueError(
            f"cannot read {path}: it is damaged or no checkpoint of a run "
            f"({type(error).__name__}: {brief(error)})"
        ) from error
    return dict(held)


def load_module(module: type[M], path: str | Path) -> M:
    """A module of ours from its checkpoint, on the CPU.

    Raises:
        ValueError: it is damaged, or of another module; names the file.
    """
    held = read_checkpoint(path)
    try:
        config = module_config(held)
        with no_larger_than(held["state_dict"]):
            loaded = module(config)
        loaded.on_load_checkpoint(held)
        loaded.load_state_dict(held["state_dict"])
    except Exception as error:  # whatever a config that nobody wrote leads to
        raise ValueError(f"cannot load {path}: {brief(error)}") from error
    return loaded


def module_config(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the module in a checkpoint: it names no file and no data, and fits the weights in size.

    Raises:
        ValueError: no module of ours wrote such a config, or weights are not finite.
    """
    held = checkpoint.get("hyper_parameters")
    config = held.get("config") if isinstance(held, dict) and len(held) == 1 else None
    if not isinstance(config, dict) or not config.keys() <= set(PORTABLE):
        raise ValueError(f"its config is not that of a module, which has {', '.join(PORTABLE)} at most")
    require_plain(config)
    require_sizes([config.get(part) for part in SIZED], checkpoint["state_dict"])
    require_finite(checkpoint["state_dict"])
    return dict(config)
