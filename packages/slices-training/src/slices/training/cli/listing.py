"""``slices list``: what can be chosen, each with one line."""

from __future__ import annotations

import argparse
import inspect
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, NamedTuple

from slices.training.cli.text import explained
from slices.training.compose import config_dir, options


class Kind(NamedTuple):
    """What is chosen by a word: its files in ``configs/``, and what third parties add to."""

    word: str
    group: str | None
    registry: str | None = None
    entry_points: str = ""


KINDS = {
    "encoders": Kind("encoder=", "encoder", "slices.encoders.factory:ENCODER_REGISTRY"),
    "ssl": Kind("ssl=", "ssl", "slices.ssl.factory:SSL_REGISTRY"),
    "heads": Kind("task.head_type=", None, "slices.heads:TASK_HEAD_REGISTRY"),
    "tasks": Kind("task=", "task"),
    "definitions": Kind("data/definitions=", "data/definitions"),
    "sources": Kind("data=", "data", "slices.training.data.sources:SOURCE_REGISTRY", "slices.sources"),
    "adaptations": Kind("adaptation=", "adaptation"),
}


def add_to(commands: Any) -> None:
    parser = commands.add_parser("list", description="what can be chosen: encoders, objectives, tasks ...")
    parser.add_argument("kind", nargs="?", metavar="KIND", help=", ".join(KINDS))
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.kind is None:
        print(explained((f"slices list {name}", f"{kind.word}NAME") for name, kind in KINDS.items()))
        return 0
    if arguments.kind not in KINDS:
        from slices.encoders.registry import unknown

        raise ValueError(unknown("kind", arguments.kind, KINDS))
    kind = KINDS[arguments.kind]
    print(explained((f"{kind.word}{name}", line) for name, line in lines_of(kind).items()))
    return 0


def lines_of(kind: Kind) -> dict[str, str]:
    """By name the first line of its file, else the first sentences of its class.

    Registries are slow to import, which is done for names without a line of their own. Third parties' are
    imported too; of one that cannot be, its line says so.
    """
    lines = {} if kind.group is None else {name: _comment(kind.group, name) for name in options(kind.group)}
    announced = {point.name for point in entry_points(group=kind.entry_points)}
    if kind.registry is None or (lines and all(lines.values()) and announced <= lines.keys()):
        return lines
    module, name = kind.registry.split(":")
    registry = getattr(import_module(module), name)
    names = sorted({*lines, *registry.names()})
    return {name: lines.get(name) or _first_sentences(registry, name) for name in names}


def _comment(group: str, name: str) -> str:
    """The first line of a config's file that is for people, where it begins with one."""
    for line in (config_dir() / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            return ""
        if not line.startswith(("# @package", "# hatch run")):
            return line.removeprefix("#").strip()
    return ""


def _first_sentences(registry: Any, name: str) -> str:
    try:
        text = inspect.getdoc(registry.find(name)) or ""
    except Exception as error:  # of somebody else's module
        return f"(cannot be imported: {type(error).__name__}: {error})"
    return " ".join(text.split("\n\n")[0].split()).replace("``", "")
