"""Vocabularies: YAML files that describe variables, and find them by name."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from slices.encoders.registry import make_config, unknown
from slices.training.compose import config_dir
from slices.training.data.schema import Variable
from slices.training.yaml_files import parse_yaml


def read_yaml(kind: str, name: str) -> dict[str, Any]:
    """The mapping in a YAML file: a path that ends in .yaml or .yml, or a name in ``configs/<kind>/``.

    Raises ``FileNotFoundError`` or ``ValueError`` naming the file, with the nearest name there is.
    """
    shipped = {path.stem: path for path in sorted((config_dir() / kind).glob("*.yaml"))}
    path = Path(name) if Path(name).suffix in (".yaml", ".yml") else shipped.get(name)
    if path is None:
        raise ValueError(f"{unknown(kind, name, shipped)}; or give the path of a .yaml file")
    if not path.is_file():
        raise FileNotFoundError(f"no {kind} file at {path}: give its path, or one of {', '.join(shipped)}")
    try:
        content = copy.deepcopy(_parsed(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as YAML ({error})") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} must hold a mapping from names of variables, and at least one")
    return {str(key): value for key, value in content.items()}


_parsed = lru_cache(maxsize=32)(parse_yaml)  # a vocabulary is asked for again and again


def read_vocabulary(name: str) -> dict[str, Variable]:
    """Variables by name: from ``configs/vocabulary/<name>.yaml``, or from a file of one's own.

    Raises ``FileNotFoundError``, ``ValueError`` or ``TypeError`` naming file, variable and field.

    >>> read_vocabulary("icu")["hr"].unit
    'bpm'
    """
    return {key: _variable(key, given, name) for key, given in read_yaml("vocabulary", name).items()}


def stamped(name: str) -> str:
    """A vocabulary's name with a digest of what it says: an option that changes when its file does."""
    content = json.dumps([variable.to_dict() for variable in read_vocabulary(name).values()])
    return f"{Path(name).stem} ({hashlib.sha256(content.encode()).hexdigest()[:8]})"


def _variable(key: str, given: Any, name: str) -> Variable:
    where = f"vocabulary {name}: {key}"
    if not isinstance(given, Mapping | None):
        raise ValueError(f"{where}: {given!r} must be a mapping, as in {{unit: bpm, low: 10, high: 300}}")
    variable: Variable = make_config(Variable, {"name": key, **(given or {})}, where)
    return variable
