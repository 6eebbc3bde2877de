"""The models that a fine-tuning run leaves: their parts, and what is chosen on validation rows."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
from torch import nn

from slices.encoders.registry import make_config
from slices.heads import TaskHeadConfig
from slices.training.adaptation.lora import merged
from slices.training.card import PACKAGES
from slices.training.data.datamodule import StayDataModule
from slices.training.data.schema import Variable
from slices.training.evaluation.report.alignment import predictions_of
from slices.training.evaluation.report.choices import Choice, choose
from slices.training.evaluation.report.files import read_predictions
from slices.training.evaluation.selection import ThresholdRule
from slices.training.finetuning import FineTuneModule
from slices.training.intervals import Intervals
from slices.training.serving.info import ModelInfo, ModelTask, ViewConfig
from slices.training.serving.model import WITH_TEMPERATURE, TrainedModel

RULE: ThresholdRule = "youden"
VIEW = ("resolution", "horizon", "window", "max_steps", "aggregate")
EDGE = 1e-3  # hours by which equal prediction times may differ


def trained_models(
    module: FineTuneModule, datamodule: StayDataModule, predictions: Path, name: str
) -> dict[str, TrainedModel]:
    """The module as it is now: a model a task, by its name, that of ``module.head`` first.

    Temperatures and thresholds are from the validation rows of its predictions.

    Args:
        module: with the weights to keep.
        datamodule: what it was trained on.
        predictions: the file that the run wrote of its validation and test stays.
        name: encoder and objective.
    """
    assert module.normalizer is not None and module.card is not None
    encoder, normalizer = merged(module.encoder), module.normalizer
    variables = tuple(variable.to_dict() for variable in _variables(module, datamodule))
    view = make_config(ViewConfig, {key: getattr(datamodule.config, key) for key in VIEW}, "data")
    parts = [(module.config.task.task_name, module.head, module.target)]
    parts += [(task, other.head, other.target) for task, other in module.others.items()]
    models = {}
    for task, head, target in parts:
        choice = _choice(head.config, predictions)
        info = ModelInfo(
            name=name,
            task=_task(datamodule, task, target),
            variables=variables,
            view=view,
            temperature=choice.temperature,
            thresholds=choice.thresholds,
            threshold_rule=RULE,
            notes=choice.notes,
            data=datamodule.fingerprint(),
            versions={package: version(package) for package in PACKAGES},
        )
        models[task] = TrainedModel(encoder, head, normalizer, info, module.card)
    return models


def _choice(head: TaskHeadConfig, predictions: Path) -> Choice:
    """As ``slices-evaluate`` chooses."""
    if head.task_type not in WITH_TEMPERATURE:
        return Choice()
    contents = read_predictions([str(predictions)], task=head.task_name or None)
    ((_, splits),) = contents.models.items()
    validation = predictions_of(splits["val"]) if "val" in splits else None
    n_labels = {"binary": 1, "multilabel": head.n_outputs}.get(head.task_type, 0)
    return choose(validation, contents.task_type, RULE, n_labels)


def _task(datamodule: StayDataModule, name: str, target: nn.Module) -> ModelTask:
    return ModelTask(
        classes=datamodule.store.manifest.tasks[name].classes,
        per_step=datamodule.labels_a_step,
        predict_at=None if datamodule.labels_a_step else _only_time(datamodule, name),
        interval_ends=tuple(target.ends.tolist()) if isinstance(target, Intervals) else (),
    )


def _only_time(datamodule: StayDataModule, task: str) -> float | None:
    """The prediction time of all training labels of a task, where there is only one."""
    _, known = datamodule.split_labels("train", task)
    labelled = known.reshape(len(known), -1).any(1)
    times = datamodule.samples.until[datamodule.splits["train"]][labelled]
    return float(times[0]) if len(times) and np.ptp(times) < EDGE else None


def _variables(module: FineTuneModule, datamodule: StayDataModule) -> list[Variable]:
    """The columns; those that the data lacks as far as the encoder's file describes them."""
    known = {variable.name: variable for variable in datamodule.store.variables}
    assert module.card is not None
    names = module.card.variables
    units = module.card.units or ("",) * len(names)
    static = set(module.encoder.config.static_columns)
    return [
        known.get(name) or Variable(name=name, unit=unit, static=i in static)
        for i, (name, unit) in enumerate(zip(names, units, strict=True))
    ]
