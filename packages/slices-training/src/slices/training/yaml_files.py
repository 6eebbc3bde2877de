"""YAML that may come from anywhere: no aliases and no levels without end."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from slices.encoders.files import brief
from slices.encoders.plain import leaves
from slices.training.past_runs import LOADER, shallow


def parse_yaml(text: str) -> Any:
    """Plain values, nothing in them resolved. ``ValueError`` for no YAML, or one that grows far too large."""
    try:
        nodes = yaml.compose(shallow(text), Loader=LOADER)
        for _ in leaves(_as_lists(nodes, {})):  # before aliases are copied
            pass
        return OmegaConf.to_container(OmegaConf.load(io.StringIO(text)))
    except (yaml.YAMLError, OmegaConfBaseException, RecursionError) as error:
        raise ValueError(str(error)) from error


def read_config(path: Path) -> DictConfig:
    """The config of a run. ``ValueError`` where it is none, or not resolved as runs write it."""
    config = _of_a_run(path, dict)
    if found := [word for word in leaves(config) if "${" in str(word)]:
        raise ValueError(f"cannot go on from {path}: no run writes {found[0]}; put the value in its place")
    made: DictConfig = OmegaConf.create(config)
    return made


def read_words(path: Path) -> list[str]:
    """What was typed for a run, nothing in it resolved. ``ValueError`` where it is something else."""
    words: list[str] = _of_a_run(path, list)
    if wrong := [word for word in words if not isinstance(word, str)]:
        raise ValueError(f"cannot go on from {path}: {wrong[0]!r:.80} is nothing that was typed")
    return words


def _of_a_run(path: Path, kind: type) -> Any:
    try:
        found = parse_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of encodings, too
        raise ValueError(f"cannot go on from {path}: it is no YAML of a run ({brief(error)})") from error
    if not isinstance(found, kind):
        raise ValueError(f"cannot go on from {path}: it holds no {kind.__name__}, as runs write it")
    return found


def _as_lists(node: yaml.Node, made: dict[int, list[Any]]) -> Any:
    """The nodes below as nested lists; an alias is the list of what it stands for, not a copy."""
    if not isinstance(node, yaml.CollectionNode):
        return None
    if id(node) not in made:
        made[id(node)] = []
        of_pairs = (pair if isinstance(pair, tuple) else (pair,) for pair in node.value)
        made[id(node)] += [_as_lists(part, made) for pair in of_pairs for part in pair]
    return made[id(node)]
