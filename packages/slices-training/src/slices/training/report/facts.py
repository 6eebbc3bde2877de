"""What a run depends on, from its record, in words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from slices.training.apps.record import read_record
from slices.training.budget import duration
from slices.training.compose import command
from slices.training.environment import environment
from slices.training.report.cells import Table, number


def facts_of(folder: Path, about: Mapping[str, str]) -> dict[str, str]:
    """Of the run in a folder: what was typed, data, device, time, versions; and what more is known."""
    record = read_record(folder)
    return {
        "command": typed(record["app"], record["overrides"]),
        "data": f"{record['data']['source']}, fingerprint {record['data']['dataset']}",
        **about,
        "device": f"{record['device']}, {record['precision']}",
        "time": duration(sum(map(_seconds, [*record["earlier"], record]))),
        "seed": str(record["seed"]),
        **software(record),
        "ended": str(record["ended"])[:16].replace("T", " "),
    }


def software(of: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Versions and commit, from what ``environment`` said then, or says now."""
    versions, state = ((of or environment())[name] for name in ("versions", "git"))
    state = state["slices"]
    changed = " with changes" if state and state["dirty"] else ""
    return {
        "version": f"slices-training {versions['slices-training']}, torch {versions['torch']}",
        "commit": f"{state['commit'][:12]}{changed}" if state else "none",
    }


def typed(app: str, overrides: Sequence[str]) -> str:
    """The command line of an app."""
    return " ".join([command(app), *map(shlex.quote, overrides)])


def last_metrics(folder: Path) -> Table:
    """The metrics in the record of a run."""
    metrics = read_record(folder)["metrics"].items()
    rows = [(name, number(value)) for name, value in metrics if name != "train/loss_step"]
    return Table("Metrics", "As the run ended.", ("metric", "value"), rows)


def _seconds(record: Mapping[str, Any]) -> float:
    """Of a part of a run; one that was killed does not know."""
    if record["ended"] is None:
        return 0.0
    began, ended = (datetime.fromisoformat(record[name]) for name in ("started", "ended"))
    return (ended - began).total_seconds()
