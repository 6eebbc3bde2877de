"""What several test files need: small, quiet, quick."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as L
from omegaconf import DictConfig

from slices.encoders.registry import make_config
from slices.training import StayDataModule
from slices.training.data.config import DataConfig


def trainer_for(folder: Path, **options: Any) -> L.Trainer:
    """A trainer for three steps, with nothing on the screen."""
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
    }
    short = {"max_epochs": 1, "limit_train_batches": 3, "num_sanity_val_steps": 0}
    return L.Trainer(**quiet | short | options, default_root_dir=folder)


def data_for(section: dict[str, Any], task: str | None = None, **options: Any) -> StayDataModule:
    """The data module of a data section."""
    return StayDataModule(make_config(DataConfig, section, "data"), task=task, **options)


def choose(config: DictConfig, **groups: str) -> DictConfig:
    """Other options in the defaults list of a config that was only loaded."""
    for entry in config.defaults:
        for group in set(groups) & set(entry):
            entry[group] = groups[group]
    return config
