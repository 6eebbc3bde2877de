"""One model of several epochs': the mean of their weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from slices.training.checkpoint_io import AtomicCheckpointIO, read_checkpoint


def average_checkpoints(paths: Sequence[str | Path], target: Path) -> Path:
    """Writes the first checkpoint with the mean of all their weights; what is no float stays the first's.

    Izmailov et al., "Averaging weights leads to wider optima and better generalization" (2018); of epochs
    chosen by validation: Wortsman et al., "Model soups" (2022).

    Raises:
        ValueError: no checkpoint at all.
    """
    if not paths:
        raise ValueError("there is no checkpoint to average")
    first, *others = [read_checkpoint(path) for path in paths]
    states = [checkpoint["state_dict"] for checkpoint in (first, *others)]
    for name, value in first["state_dict"].items():
        if value.is_floating_point():
            mean = torch.stack([state[name].double() for state in states]).mean(0)
            first["state_dict"][name] = mean.to(value.dtype)
    AtomicCheckpointIO().save_checkpoint(first, target)
    return target
