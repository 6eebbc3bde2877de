"""Does the model fit the data? What is not said is filled in, what does not fit is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from slices.encoders import BaseEncoder
from slices.encoders.registry import unknown
from slices.training.config import NamedEncoder, TaskConfig
from slices.training.data.config import DataConfig
from slices.training.data.datamodule import StayDataModule, dataset_info
from slices.training.errors import UserError


def shaped(encoder: NamedEncoder, data: DataConfig | None) -> NamedEncoder:
    """The encoder with number of variables and static columns from the data, each where not given.

    Raises:
        UserError: the number of variables is not known.
    """
    given = encoder.config
    if data is None:
        if given.d_input is None:
            raise UserError("encoder.d_input is missing: give the number of variables, or a data section")
        return encoder
    info = dataset_info(data)
    if given.d_input not in (None, len(info.variables)):
        return encoder  # made for other data than the section's
    static_columns = given.static_columns or info.static_columns
    config = dataclasses.replace(given, d_input=len(info.variables), static_columns=static_columns)
    return NamedEncoder(name=encoder.name, config=config)


def with_classes(task: TaskConfig, data: DataConfig | None) -> TaskConfig:
    """The task with its number of classes from the data, where it needs one and none is given.

    Raises:
        UserError: the data has no such task.
    """
    if task.n_classes is not None or data is None or task.task_type in ("binary", "regression"):
        return task
    tasks = dataset_info(data).tasks
    if task.task_name not in tasks:
        raise UserError(f"{unknown('task', task.task_name, tasks)} (in the data), or give task.n_classes")
    return dataclasses.replace(task, n_classes=tasks[task.task_name].n_classes)


def check_shape(datamodule: StayDataModule, encoder: BaseEncoder, accepted: frozenset[str]) -> None:
    """Refuses data that the encoder, or what calls it, was not built for.

    Raises:
        UserError: another number of variables, other static columns, or measured timestamps for something
            that does not look at ``times`` and ``padding_mask`` (``accepted``: the inputs that it names).
    """
    if encoder.d_input != len(datamodule.variables):
        raise UserError(
            f"encoder.d_input={encoder.d_input}, but the data has {len(datamodule.variables)} variables: "
            "leave d_input out to take it from the data"
        )
    differing = set(encoder.config.static_columns) ^ set(datamodule.static_columns)
    differing -= set(datamodule.absent_columns)
    if differing:
        names = ", ".join(datamodule.variables[column] for column in sorted(differing))
        raise UserError(
            f"encoder and data do not agree on what is measured once a stay ({names}): leave "
            "encoder.static_columns out to take them from the data"
        )
    unseen = {"times", "padding_mask"} - accepted
    if datamodule.config.resolution == "observations":
        raise UserError(
            "data.resolution=observations gives single values (value, time, variable) for your own models: "
            "our encoders and objectives take a grid (data.resolution=1.0) or data.resolution=timestamps"
        )
    if datamodule.config.resolution == "timestamps" and unseen:
        raise UserError(
            f"data.resolution=timestamps, but the forward of encoder or objective does not take "
            f"{' and '.join(sorted(unseen))}: use a grid (data.resolution=1.0), or ones that do"
        )


def check_task(datamodule: StayDataModule, task: TaskConfig, encoder: BaseEncoder, n_outputs: int) -> None:
    """Refuses labels of another kind than the model was built for.

    Raises:
        UserError: no labels, another type of task or number of classes, labels a step for a model of one a
            stay or the other way round, or labels a step for an encoder that sees the future.
    """
    data = datamodule.task
    if data is None:
        raise UserError(f"the data module gives no labels: build it with task={task.task_name!r}")
    if data.task_type != task.task_type or data.n_classes not in (None, n_outputs):
        raise UserError(
            f"task {data.name!r} is {data.task_type} with {data.n_classes} classes in the data, but the "
            f"config says {task.task_type} with {task.n_classes}: choose task={data.name}"
        )
    if datamodule.labels_a_step != task.per_step:
        have = "step" if datamodule.labels_a_step else "sample"
        raise UserError(
            f"task {data.name!r}: the batches have one label a {have}, but task.per_step={task.per_step}: "
            f"give the data module per_step={task.per_step}"
        )
    if task.per_step and not encoder.causal:
        raise UserError(
            f"task {data.name!r} has one label a step: it needs an encoder that cannot see the future "
            "(encoder=gru, or encoder.causal=true where that is an option; in pretraining too), or "
            "task.per_step=false, which shows the encoder each stay up to each prediction time"
        )


def refuse_other_split(pretrained: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuses to test on stays that the encoder may have been pretrained on.

    Args:
        pretrained, now: fingerprints of the data of pretraining and of this run.

    Raises:
        UserError: the same dataset, split another way.
    """
    if pretrained.get("dataset") == now["dataset"] and pretrained.get("splits") != now["splits"]:
        raise UserError(
            f"the encoder was pretrained on another split of this dataset ({pretrained.get('splits')} then, "
            f"{now['splits']} now), so that it may have seen the stays it would be tested on: use the same "
            "data.splits, or training.allow_other_split=true"
        )
