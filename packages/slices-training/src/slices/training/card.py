"""What an encoder knows of its data: its shape before training, its card after."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from slices.encoders import BaseEncoder, EncoderCard, Normalizer
from slices.encoders.registry import unknown
from slices.training.config import NamedEncoder, TaskConfig
from slices.training.data.config import DataConfig
from slices.training.data.datamodule import StayDataModule, dataset_info
from slices.training.errors import UserError

PACKAGES = ("slices-encoders", "slices-ssl", "slices-heads", "slices-training", "torch", "lightning")


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
    if datamodule.config.resolution == "timestamps" and unseen:
        raise UserError(
            f"data.resolution=timestamps, but the forward of encoder or objective does not take "
            f"{' and '.join(sorted(unseen))}: use a grid (data.resolution=1.0), or ones that do"
        )


def data_card(datamodule: StayDataModule, objective: str | None) -> EncoderCard:
    """Variables, units, fingerprint and versions of a run on this data module."""
    return EncoderCard(
        variables=tuple(datamodule.variables),
        units=tuple(datamodule.units),
        objective=objective,
        versions={package: version(package) for package in PACKAGES},
        data=datamodule.fingerprint(),
    )


def pack_card(card: EncoderCard | None, normalizer: Mapping[str, Any] | None) -> dict[str, Any]:
    """Both as plain values, for a Lightning checkpoint."""
    return {"card": dataclasses.asdict(card) if card else None, "normalizer": normalizer}


def unpack_card(packed: Mapping[str, Any] | None) -> tuple[EncoderCard | None, dict[str, Any] | None]:
    """The inverse of :func:`pack_card`."""
    card, normalizer = (packed or {}).get("card"), (packed or {}).get("normalizer")
    return EncoderCard(**card) if card else None, normalizer


def as_normalizer(values: Mapping[str, Any] | None) -> Normalizer | None:
    """The normaliser of these plain values."""
    return Normalizer.from_dict(values) if values else None
