"""Checks of config values: an error says the field, what it was and what is allowed."""

from __future__ import annotations

import math
from typing import Any, get_args

from .registry import unknown

MOST_LAYERS = 1_000  # more would take minutes to make, and files of them be more than is read


def require(config: object, field: str, holds: bool, allowed: str) -> None:
    """Raise ``ValueError`` unless ``holds``, saying that ``field`` must be ``allowed``."""
    if not holds:
        raise ValueError(f"{field}={getattr(config, field)!r}: must be {allowed}")


def require_at_least(config: object, low: int, *fields: str) -> None:
    """Raise ``ValueError`` where a field that is set is below ``low``, or infinite."""
    for field in fields:
        value = getattr(config, field)
        require(config, field, value is None or value >= low, f"at least {low}")
        require(config, field, value != math.inf, "finite")


def require_layers(config: object, field: str) -> None:
    """Raise ``ValueError`` where there is no layer, or more than could ever be made."""
    require_at_least(config, 1, field)
    require(config, field, getattr(config, field) <= MOST_LAYERS, f"at most {MOST_LAYERS:,}")


def require_temperature(config: object, *fields: str) -> None:
    """Raise ``ValueError`` where a field is not above 0, or infinite."""
    for field in fields:
        require(config, field, 0 < getattr(config, field) < math.inf, "above 0, and finite")


def require_fraction(config: object, *fields: str) -> None:
    """Raise ``ValueError`` where a field is not strictly between 0 and 1."""
    for field in fields:
        require(config, field, 0 < getattr(config, field) < 1, "between 0 and 1, both excluded")


def require_choice(config: object, field: str, literal: Any) -> None:
    """Raise ``ValueError`` where a field is not of the type ``literal``, naming the nearest choice."""
    value = getattr(config, field)
    if value not in get_args(literal):
        raise ValueError(unknown(field, value, get_args(literal)))


def require_heads(config: object, width: str, heads: str) -> None:
    """Raise ``ValueError`` where the field ``width`` cannot be split evenly into ``heads``."""
    require_at_least(config, 1, width, heads)
    n_heads = getattr(config, heads)
    require(config, width, getattr(config, width) % n_heads == 0, f"a multiple of {heads}={n_heads}")
