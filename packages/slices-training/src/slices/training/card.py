"""What an encoder takes along of the data it was trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from slices.encoders import EncoderCard, Normalizer
from slices.encoders.registry import make_config
from slices.training.data.datamodule import StayDataModule

PACKAGES = ("slices-encoders", "slices-ssl", "slices-heads", "slices-training", "torch", "lightning")


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
    return make_config(EncoderCard, card, "card") if card else None, normalizer


def as_normalizer(values: Mapping[str, Any] | None) -> Normalizer | None:
    """The normaliser of these plain values."""
    return Normalizer.from_dict(values) if values else None
