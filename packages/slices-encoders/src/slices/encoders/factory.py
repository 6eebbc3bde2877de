"""Encoders by name.

An architecture is added with ``@register_encoder(name, Config)``, or by two plain assignments to the
registries below.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import (  # noqa: F401  (importing an architecture registers it)
    duett,
    flowsheet,
    gru_d,
    linear,
    mamba,
    mtand,
    observation_transformer,
    patch_transformer,
    rnn,
    smart,
    tcn,
    transformer,
    ts2vec,
)
from .base import ENCODER_CONFIG_REGISTRY, ENCODER_REGISTRY, BaseEncoder, EncoderConfig, register_encoder
from .registry import make_config

__all__ = [
    "ENCODER_CONFIG_REGISTRY",
    "ENCODER_REGISTRY",
    "build_encoder",
    "list_encoders",
    "register_encoder",
]


def build_encoder(name: str, config: EncoderConfig | Mapping[str, Any]) -> BaseEncoder:
    """The encoder of this name. The config may be a mapping, and then may repeat the name.

    Raises:
        ValueError: an unknown name or option (the nearest one is named), or a bad value.
        TypeError: a value of the wrong type, or the config of another architecture.

    >>> build_encoder("gru", {"d_input": 4, "d_model": 8}).output_dim
    8
    """
    encoder = ENCODER_REGISTRY.find(name)
    if isinstance(config, Mapping):
        if config.get("name", name) != name:
            raise ValueError(f"encoder: the config is of {config['name']!r}, but {name!r} was asked for")
        config = {key: value for key, value in config.items() if key != "name"}
    return encoder(make_config(ENCODER_CONFIG_REGISTRY.find(name), config, "encoder"))


def list_encoders(pattern: str = "*") -> list[str]:
    """The names of all encoders that match a shell pattern, those of installed third parties included.

    >>> list_encoders("*transformer")
    ['observation_transformer', 'patch_transformer', 'transformer']
    """
    return ENCODER_REGISTRY.names(pattern)
