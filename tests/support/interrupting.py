"""Runs in this process that end in the middle of anything, and all that they leave to go on from.

What is killed here is noticed by Lightning, whose clean-up then runs; real kills are in ``test_resume``.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.trainer import call

from slices.training.checkpoint_io import LAST

HOOKS = ("_call_callback_hooks", "_call_lightning_module_hook", "_call_strategy_hook")
Curves = dict[tuple[str, str], str]


class Killed(BaseException):
    """Nothing expects it, and nothing handles it."""


class Kills:
    """Counts places at which a run may end: around every hook, and while files are written.

    ``after(n)`` ends it at the nth from now on.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.n_places, self._at = 0, -1
        for name in HOOKS:
            monkeypatch.setattr(call, name, self._around(getattr(call, name)))
        for owner, name in ((os, "fsync"), (Path, "replace"), (CSVLogger, "save")):
            monkeypatch.setattr(owner, name, self._around(getattr(owner, name)))

    def after(self, n_places: int) -> None:
        self._at = self.n_places + n_places

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def around(*args: Any, **kwargs: Any) -> Any:
            self._place()
            given = function(*args, **kwargs)
            self._place()
            return given

        return around

    def _place(self) -> None:
        self.n_places += 1
        if self.n_places == self._at:
            raise Killed


def curves(folder: Path) -> Curves:
    """All that was logged, by its name and step; what a later process logged again replaces it."""
    found: Curves = {}
    for file in sorted(folder.glob("logs-*/metrics.csv"), key=lambda path: int(path.parent.name[5:])):
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                found |= {(name, row["step"]): value for name, value in row.items() if value}
    return found


def state(folder: Path, name: str = LAST) -> dict[str, Any]:
    """All in a checkpoint that training goes on from, by name, but paths."""
    held = torch.load(folder / name, weights_only=True)
    parts = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch")
    return flat({part: held[part] for part in parts})


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """The leaves of nested dicts and lists."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = dict(enumerate(value)).items()
    else:
        return {name: value}
    return {key: leaf for part, held in items for key, leaf in flat(held, f"{name}.{part}").items()}


def differing(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Names of what is not there in both, bit for bit."""
    assert expected
    other = [name for name in found.keys() & expected.keys() if not _equal(found[name], expected[name])]
    return sorted([*map(str, other), *map(str, found.keys() ^ expected.keys())])


def _equal(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)
