"""What an encoder must know of the data it was trained on, to be of use elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from torch import nn

from slices.encoders import EncoderCard, Normalizer
from slices.training.batch import accepted_inputs
from slices.training.data.datamodule import StayDataModule

PACKAGES = ("slices-encoders", "slices-ssl", "slices-heads", "slices-training", "torch", "lightning")


def data_card(
    datamodule: object, encoder: nn.Module, objective: str | None
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
    built_for = getattr(getattr(encoder, "config", None), "d_input", None)
    if built_for not in (None, len(datamodule.variables)):
        raise ValueError(
            f"encoder.d_input={built_for}, but the data has {len(datamodule.variables)} variables: "
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
