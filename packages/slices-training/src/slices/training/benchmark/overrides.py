"""Settings for some rows of a benchmark, as overrides of an app's config."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

WHOLE = {"ssl.parts", "task.also"}  # options that are dictionaries
Section = dict[str, dict[str, Any]]


def spelt(key: object) -> str:
    """A section's key, its numbers in one spelling (YAML takes 0.05 for one, and 1.0 for another than 1).

    >>> spelt(1.0), spelt("gru+0.050")
    ('1', 'gru+0.05')
    """
    return "+".join(_spelt(part) for part in str(key).split("+"))


def _spelt(part: str) -> str:
    try:
        return f"{float(part):g}"
    except ValueError:
        return part


def overrides_for(section: Section, about: AbstractSet[str], special: Container[str] = ()) -> list[str]:
    """The settings of a section that are about some names, as overrides.

    Those under more ``special`` names win, and of as many those under more names. Options that are whole
    dictionaries (``WHOLE``) are not merged: the last counts.

    >>> section = {"all": {"training": {"max_epochs": 9}, "ssl": {}}, "gru": {"training": {"max_epochs": 5}}}
    >>> overrides_for(section, {"gru", "mae"})
    ['training.max_epochs=5']
    >>> overrides_for(section | {"gru+none": {"seed": 1}}, {"gru", "none"})
    ['training.max_epochs=5', 'seed=1']
    >>> section = {"sum": {"ssl": {"parts": {"mae": {"mask_ratio": 0.7}, "forecast": {}}}}}
    >>> overrides_for(section, {"gru", "sum"})
    ['++ssl.parts={mae:{mask_ratio:0.7},forecast:{}}']
    """
    parts = {key: () if key == "all" else key.split("+") for key in section}
    keys = [key for key in section if about >= set(parts[key])]
    keys.sort(key=lambda key: (sum(part in special for part in parts[key]), len(parts[key])))
    words = (word.partition("=") for key in keys for word in flat(section[key]))
    return [f"{name}={value}" for name, _, value in {word[0]: word for word in words}.values()]


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Nested settings as overrides, one an option.

    >>> list(flat({"training": {"max_epochs": 5, "patience": None}}))
    ['training.max_epochs=5', 'training.patience=null']
    """
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if name in WHOLE:
            yield f"++{name}={_spelt_out(value)}"
        elif isinstance(value, dict):
            yield from flat(value, f"{name}.")
        else:
            yield f"{name}={_spelt_out(value)}"


def _spelt_out(value: Any) -> str:
    """As Hydra reads it, which wants a dictionary's keys without quotes."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_spelt_out(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value)
