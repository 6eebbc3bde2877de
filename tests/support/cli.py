"""The command line, in this process: the same entry point, arguments and exit status."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any, NamedTuple

import pytest
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra

COMPOSE_MODE = Hydra.get_mode


def mode(hydra: Hydra, config_name: str | None, overrides: list[str]) -> Any:
    """Hydra composes everything twice, once to look for this key alone, which takes half of a short test."""
    if any(word in typed for typed in sys.argv for word in ("hydra.mode", "sweep=", "--config")):
        return COMPOSE_MODE(hydra, config_name, overrides)
    return None


class Finished(NamedTuple):
    status: int
    out: str
    err: str


class CommandLine:
    """Calls an app as its console script does; the current folder is the test's own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch = monkeypatch
        self.capfd = capfd
        monkeypatch.setattr(Hydra, "get_mode", mode)

    def __call__(self, app: str, *arguments: str) -> Finished:
        main = importlib.import_module(f"slices.training.apps.{app}").main
        self.monkeypatch.setattr(sys, "argv", [f"slices-{app}", *arguments])
        GlobalHydra.instance().clear()
        handlers, level = logging.root.handlers[:], logging.root.level
        status = 0
        self.capfd.readouterr()
        try:
            main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        finally:
            for handler in set(logging.root.handlers) - set(handlers):
                handler.close()
            logging.root.handlers[:] = handlers
            logging.root.setLevel(level)
        return Finished(status, *self.capfd.readouterr())
