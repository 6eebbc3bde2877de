"""What a fine-tuned model says of stays: numbers with names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl
from torch import Tensor

from slices.training.evaluation.bootstrap import Array
from slices.training.report.style import named
from slices.training.serving.model import WITH_TEMPERATURE, TrainedModel


class Outputs(NamedTuple):
    """``values (B, C)``, or ``(B, T, C)`` with one prediction a step; ``names`` of the C, and their unit."""

    values: Tensor
    names: tuple[str, ...]
    unit: str


def outputs_of(model: TrainedModel, batch: Mapping[str, Tensor]) -> Outputs:
    """Probabilities, values, or of a survival task the incidence of each event by its last hour."""
    values, task = model.predict(batch)["probs"], model.info.task
    unit = "probability" if model.task.task_type in WITH_TEMPERATURE else "prediction"
    if model.task.task_type == "survival":
        values, unit = values[..., -1, :], f"incidence by {task.interval_ends[-1]:g} hours later"
    return Outputs(values, task.classes or tuple(map(str, range(values.shape[-1]))), unit)


def in_one(model: TrainedModel, said: Outputs) -> pl.Series:
    """Of outputs ``(N, C)`` what tells stays apart: a number or a class each, named for readers."""
    values: Array = said.values.double().numpy()
    what = named(model.task.task_name)
    match model.task.task_type:
        case "binary":
            return pl.Series(f"predicted {said.unit}: {said.names[-1]}", values[:, -1])
        case "multiclass" | "ordinal":
            return pl.Series(f"likeliest {what}", [said.names[k] for k in values.argmax(1)])
        case "multilabel":
            return pl.Series(f"predicted {what} (of {len(said.names)})", values.sum(1))
        case "survival":
            return pl.Series(f"predicted {said.unit}: {said.names[0]}", values[:, 0])
        case _:
            return pl.Series(f"predicted {what}", values[:, 0])
