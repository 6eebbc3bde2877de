"""What an encoder knows of its data: its shape before training, its card after."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from slices.encoders import BaseEncoder, EncoderCard, Normalizer
from slices.encoders.registry import unknown
from slices.ssl.encoding import accepted_inputs
from slices.training.config import NamedEncoder, TaskConfig
from slices.training.data.config import DataConfig
from slices.training.data.datamodule import StayDataModule, dataset_info

PACKAGES = ("slices-encoders", "slices-ssl", "slices-heads", "slices-training", "torch", "lightning")


def shaped(encoder: NamedEncoder, data: DataConfig | None) -> NamedEncoder:
    """The encoder with number of variables and static columns from the data, where not given.

    Raises:
        ValueError: neither is known.
    """
    if encoder.config.d_input is not None:
        return encoder
    if data is None:
        raise ValueError("encoder.d_input is missing: give the number of variables, or a data section")
    info = dataset_info(data)
    config = dataclasses.replace(
        encoder.config, d_input=len(info.variables), static_columns=info.static_columns
    )
    return NamedEncoder(name=encoder.name, config=config)


def with_classes(task: TaskConfig, data: DataConfig | None) -> TaskConfig:
    """The task with its number of classes from the data, where it needs one and none is given.

    Raises:
        ValueError: the data has no such task.
    """
    if task.n_classes is not None or data is None or task.task_type in ("binary", "regression"):
        return task
    tasks = dataset_info(data).tasks
    if task.task_name not in tasks:
        raise ValueError(f"{unknown('task', task.task_name, tasks)} (in the data), or give task.n_classes")
    return dataclasses.replace(task, n_classes=tasks[task.task_name].n_classes)


def data_card(
    datamodule: object, encoder: BaseEncoder, objective: str | None
) -> tuple[EncoderCard, Normalizer | None]:
    """Variables, units, fingerprint and versions, and the normaliser, of a run on this data module.

    Of a data module that is not ours nothing is known but the versions.

    Raises:
        ValueError: measured timestamps meet an encoder that does not look at ``times``, or the encoder
            was built for another number of variables.
    """
    versions = {package: version(package) for package in PACKAGES}
    if not isinstance(datamodule, StayDataModule):
        return EncoderCard(objective=objective, versions=versions), None
    if datamodule.config.resolution == "timestamps" and "times" not in accepted_inputs(encoder):
        raise ValueError(
            f"data.resolution=timestamps, but {type(encoder).__name__}.forward does not take `times`: "
            "use a grid (data.resolution=1.0) or an encoder that does"
        )
    if encoder.d_input != len(datamodule.variables):
        raise ValueError(
            f"encoder.d_input={encoder.d_input}, but the data has {len(datamodule.variables)} variables: "
            "leave d_input out to take it from the data"
        )
    card = EncoderCard(
        variables=tuple(datamodule.variables),
        units=tuple(datamodule.units),
        objective=objective,
        versions=versions,
        data=datamodule.fingerprint(),
    )
    return card, datamodule.normalizer


def pack_card(card: EncoderCard | None, normalizer: Normalizer | None) -> dict[str, Any]:
    """Both as plain values and tensors, for a Lightning checkpoint."""
    return {
        "card": dataclasses.asdict(card) if card else None,
        "normalizer": normalizer.to_dict() if normalizer else None,
    }


def unpack_card(packed: Mapping[str, Any] | None) -> tuple[EncoderCard | None, Normalizer | None]:
    """The inverse of :func:`pack_card`."""
    packed = packed or {}
    card, normalizer = packed.get("card"), packed.get("normalizer")
    return (
        EncoderCard(**card) if card else None,
        Normalizer.from_dict(normalizer) if normalizer else None,
    )
