"""What a Lightning checkpoint says of its module, and the module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from lightning.pytorch import LightningModule

from slices.encoders.files import brief
from slices.encoders.plain import require_plain
from slices.encoders.weights import no_larger_than, require_finite, require_sizes
from slices.training.checkpoint_io import read_checkpoint

PORTABLE = ("encoder", "ssl", "task", "training", "optimizer", "scheduler", "seed")  # sections of its config
SIZED = ("encoder", "ssl", "task")  # those with widths
M = TypeVar("M", bound=LightningModule)


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
