"""From a config to a fitted baseline and its predictions."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from slices.heads import TaskType
from slices.training.agreement import check_kind, with_task
from slices.training.baseline.config import BaselineConfig
from slices.training.baseline.rows import feature_rows
from slices.training.config import TaskConfig
from slices.training.data.datamodule import StayDataModule
from slices.training.errors import UserError
from slices.training.evaluation.baselines import Baseline, fit_baseline

Batches = dict[str, list[dict[str, Tensor]]]


def labelled_data(config: BaselineConfig) -> tuple[StayDataModule, TaskConfig]:
    """The data, prepared and split, and the task with all that the data says of it.

    Raises:
        UserError: a task that there is not, that the baselines cannot learn, or splits without stays.
    """
    task = dataclasses.replace(config.task, per_step=False)
    data = StayDataModule(config.data, task=task.task_name, per_step=False, seed=config.seed)
    data.prepare_data()
    task = with_task(task, config.data)
    if task.task_type == "survival":
        raise UserError("survival tasks have no baseline yet: choose a task with classes or numbers")
    if task.also:
        raise UserError(f"task.also={list(task.also)}: a baseline learns one task at a time; leave it out")
    data.setup()
    assert data.task is not None
    check_kind(data.task, task, task.head(1).n_outputs)
    if empty := [split for split in ("train", "val", "test") if data.sizes[split] == 0]:
        raise UserError(f"split {empty[0]!r} has no stays with a label: change data.splits")
    return data, task


def fit_and_predict(
    config: BaselineConfig, data: StayDataModule, task: TaskConfig
) -> tuple[Baseline, Batches]:
    """The baseline fitted on the training rows, and batches of its validation and test rows.

    Raises:
        ImportError: LightGBM is not installed.
        ValueError: no label.
    """
    assert task.task_type is not None
    kind: TaskType = "multiclass" if task.task_type == "ordinal" else task.task_type
    train = feature_rows(data, "train")
    model = fit_baseline(
        config.model,
        train.features,
        train.about["label"],
        kind,
        n_classes=task.head(1).n_outputs,
        label_mask=train.about["label_mask"],
        group=train.about["patient_id"],
        tune=config.tune,
        seed=config.seed,
    )
    batches: Batches = {}
    for split in ("val", "test"):
        rows = feature_rows(data, split)
        batches[split] = [rows.about | {"probs": torch.from_numpy(model.predict(rows.features)).float()}]
    return model, batches
