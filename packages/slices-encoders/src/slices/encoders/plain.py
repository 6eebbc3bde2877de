"""Plain values: what a header may hold, and how much of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from .config import require

MOST_VALUES, DEEPEST = 1_000_000, 32


def leaves(tree: object) -> Iterator[object]:
    """All keys, and values that are no dict, list or tuple. ``ValueError`` for too many, or too deep.

    A list that is in it twice counts twice: ten lists of ten times the next one are a short file.
    """
    level, seen = [tree], 0
    for _ in range(DEEPEST):
        below: list[object] = []
        for value in level:
            if not isinstance(value, dict | list | tuple):
                yield value
                continue
            seen += len(value)
            require(seen <= MOST_VALUES, f"it holds more than {MOST_VALUES:,} values")
            below += [*value, *value.values()] if isinstance(value, dict) else value
        if not below:
            return
        level = below
    raise ValueError(f"it is nested deeper than {DEEPEST}")


def require_plain(tree: object) -> None:
    """Raises ``ValueError`` for what is not made of JSON's types, or for a number that is not finite.

    >>> require_plain({"d_model": 64, "scale": [1.0, float("inf")]})
    Traceback (most recent call last):
    ...
    ValueError: it holds inf, which is no number
    """
    for value in leaves(tree):
        plain = value is None or isinstance(value, str | int | float)
        require(plain, f"it holds a {type(value).__name__}, which is no plain value")
        require(not isinstance(value, float) or math.isfinite(value), f"it holds {value}, which is no number")


def parse_json(text: str | bytes) -> Any:
    """What JSON says; ``ValueError`` where it is none, says a key twice, or is not plain."""
    try:
        tree = json.loads(text, object_pairs_hook=_once)
    except RecursionError as error:
        raise ValueError(f"it is nested deeper than {DEEPEST}") from error
    require_plain(tree)
    return tree


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    require(len(mapping) == len(pairs), "it says a key twice")
    return mapping
