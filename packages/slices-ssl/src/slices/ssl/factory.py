"""Objectives by name.

A new objective is two lines here (or ``register_objective`` in a package of its own)::

    SSL_REGISTRY["my_ssl"] = MySSLObjective
    CONFIG_REGISTRY["my_ssl"] = MySSLConfig
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from . import objectives  # noqa: F401  they register themselves
from .base import CONFIG_REGISTRY, SSL_REGISTRY, BaseSSLObjective, SSLConfig, register_objective
from .registry import make_config

__all__ = [
    "CONFIG_REGISTRY",
    "SSL_REGISTRY",
    "build_ssl_objective",
    "list_objectives",
    "register_objective",
]


def build_ssl_objective(encoder: nn.Module, config: SSLConfig | Mapping[str, Any]) -> BaseSSLObjective:
    """The objective that ``config.name`` says, around ``encoder``.

    Args:
        encoder: any module that meets :class:`~slices.ssl.encoding.Encoder`.
        config: the objective's dataclass, or a mapping of its fields.

    Raises:
        ValueError: an unknown name or field (the nearest is named) or a value that is not allowed.
        TypeError: a value of the wrong type, or an encoder that lacks something.

    >>> encoder = nn.Linear(3, 8)
    >>> encoder.output_dim = 8
    >>> build_ssl_objective(encoder, {"name": "mae", "d_input": 3, "mask_ratio": 0.15}).config.mask_ratio
    0.15
    >>> build_ssl_objective(encoder, {"name": "mea"})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: unknown SSL objective 'mea': did you mean 'mae'? There are: barlow_twins, byol, ...
    """
    name = config.get("name", "") if isinstance(config, Mapping) else config.name
    objective = SSL_REGISTRY.find(name)
    return objective(encoder, make_config(CONFIG_REGISTRY.find(name), config, where="ssl"))


def list_objectives(pattern: str = "*") -> list[str]:
    """The names of the objectives that match a shell pattern.

    >>> list_objectives("*jepa")
    ['jepa', 'lejepa']
    """
    return SSL_REGISTRY.names(pattern)
