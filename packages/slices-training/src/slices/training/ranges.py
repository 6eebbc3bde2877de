"""Checks and ranges that several configs share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from slices.encoders.registry import Registry
from slices.ssl.registry import Registry as SSLRegistry

SEEDS = 2**32  # numpy takes no greater ones
FLOAT32 = 3.4e38  # about the greatest

CompileMode = Literal["default", "reduce-overhead", "max-autotune"]  # of torch.compile
LoggerName = Literal["tensorboard", "wandb", "mlflow"]
OnNonfinite = Literal["stop", "skip"]  # of a step whose loss or gradient is not finite


def require_at_least_one(config: object, *names: str) -> None:
    """Raises ``ValueError`` naming an option that is set, but below 1."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ValueError(f"{name}={value}: allowed is 1 or more")


def require_float32(config: object, *names: str) -> None:
    """Raises ``ValueError`` naming an option that is set, but greater than what weights can hold."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value < FLOAT32:
            raise ValueError(f"{name}={value}: allowed is below {FLOAT32:g}, which float32 can hold")


def require_seed(config: object, *names: str) -> None:
    """Raises ``ValueError`` naming an option that is no seed of a generator."""
    for name in names:
        if not 0 <= (value := getattr(config, name)) < SEEDS:
            raise ValueError(f"{name}={value}: allowed is 0 to {SEEDS - 1}")


def named(given: object, section: str, registry: Registry[Any] | SSLRegistry[Any]) -> str:
    """The name that a section of a config gives, one of the registry's.

    Raises ``TypeError`` for what is no section, ``ValueError`` for a name that is missing or unknown.
    """
    if not isinstance(given, Mapping):
        what = "expected a section with a name and its options"
        raise TypeError(f"{section}: {what}, got {given!r}. There are: {', '.join(registry.names())}")
    if (name := given.get("name")) is None:
        raise ValueError(f"{section}: name is missing. There are: {', '.join(registry.names())}")
    registry.find(name)
    return str(name)
