"""Fine-tuned models made in a moment, from all that fine-tuning would make them of but the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from quick import data_for
from slices.training import FineTuneModule, StayDataModule
from slices.training.apps.predictions import write_predictions
from slices.training.serving import TrainedModel
from slices.training.serving.build import trained_models

# task section of each kind, on the synthetic stays
KINDS: dict[str, dict[str, Any]] = {
    "binary": {"task_name": "in_hospital_mortality", "task_type": "binary"},
    "multiclass": {"task_name": "length_of_stay_class", "task_type": "multiclass"},
    "ordinal": {"task_name": "length_of_stay_class", "task_type": "ordinal"},
    "multilabel": {"task_name": "organ_failure", "task_type": "multilabel"},
    "regression": {"task_name": "length_of_stay", "task_type": "regression"},
    "quantiles": {"task_name": "length_of_stay", "task_type": "regression", "loss": "quantile"},
    "attention": {"task_name": "in_hospital_mortality", "head_type": "attention"},
    "a step": {"task_name": "deterioration", "task_type": "binary", "per_step": True},
    "prefixes": {"task_name": "deterioration", "task_type": "binary", "per_step": False},
}


class Made(NamedTuple):
    model: TrainedModel
    module: FineTuneModule
    data: StayDataModule
    predictions: Path


def made(
    tiny: dict[str, Any], folder: Path, kind: str = "binary", seed: int = 0, encoder: str = "gru"
) -> Made:
    """A model of random weights; its predictions, temperature and thresholds are what they are."""
    torch.manual_seed(seed)
    task: dict[str, Any] = {"hidden_dims": (8,)} | KINDS[kind]
    module = FineTuneModule(
        {
            "encoder": {"name": encoder, "d_model": 8},
            "task": task,
            "training": {"freeze_encoder": False},
            "data": tiny,
        }
    )
    data = data_for(tiny, task["task_name"], per_step=module.config.task.per_step)
    data.prepare_data()
    data.setup()
    module.follow(data)
    module.check_task(data)
    module.eval()
    with torch.no_grad():
        batches = {
            split: [module.predict_step(batch, i) for i, batch in enumerate(data.loader(split))]
            for split in ("val", "test")
        }
    step_hours = data.view.bin_width if data.labels_a_step else None
    file = folder / f"{kind}-{seed}.parquet"
    write_predictions(file, batches, module.head.config, model="gru+none", step_hours=step_hours)
    (model,) = trained_models(module, data, file, name="gru+none").values()
    return Made(model, module, data, file)
