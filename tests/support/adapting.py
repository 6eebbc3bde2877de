"""Modules that adapt a pretrained encoder, and their data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from quick import choose, data_for
from slices.training import FineTuneModule, StayDataModule

MORTALITY = "in_hospital_mortality"


def prepared(tiny: dict[str, Any], task: str, **how: Any) -> StayDataModule:
    data = data_for(tiny, task, **how)
    data.prepare_data()
    data.setup()
    return data


def adapting(
    config: DictConfig,
    tiny: dict[str, Any],
    checkpoint: Path | None,
    task: str = MORTALITY,
    head_type: str = "mlp",
    **how: Any,
) -> tuple[FineTuneModule, StayDataModule]:
    config = choose(config, task=task)
    config.data, config.training, config.task = tiny, how, {"head_type": head_type}
    torch.manual_seed(0)
    module = FineTuneModule(config, checkpoint_path=checkpoint)
    return module, prepared(tiny, task, per_step=module.config.task.per_step)
