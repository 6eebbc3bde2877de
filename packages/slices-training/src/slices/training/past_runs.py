"""What runs left on record, read without torch, so that a table of them is quick."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

RECORD = "record.yaml"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MOST_LEVELS = 100


def shallow(text: str) -> str:
    """The YAML as it is. ``ValueError`` where it is nested so deeply that PyYAML's C code could crash.

    >>> shallow("{a: [1]}"), MOST_LEVELS
    ('{a: [1]}', 100)
    """
    level = 0
    for event in yaml.parse(text, Loader=LOADER):
        level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if level > MOST_LEVELS:
            raise ValueError(f"nested deeper than {MOST_LEVELS} levels")
    return text


def load_record(folder: Path) -> dict[str, Any]:
    """The record of the run in a folder, as it is written.

    Raises:
        FileNotFoundError, ValueError: there is none, or it is damaged.
    """
    path = folder / RECORD
    if not path.is_file():
        raise FileNotFoundError(f"no record of a run at {path}: give the folder of a run that wrote one")
    try:
        record = yaml.load(shallow(path.read_text(encoding="utf-8")), Loader=LOADER)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # of encodings, too
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(record, dict) or not {"app", "outcome", "earlier"} <= record.keys():
        raise ValueError(f"{path} is damaged: it holds no record")
    return record


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """One run: which app, when (UTC), how it ended, and what came of it.

    ``model``: the encoder, or the baseline; ``of``: the objective, or the task. ``seconds`` of its last
    start; None while it runs, and of one that was killed.
    """

    folder: Path
    app: str = ""
    started: str = ""
    outcome: str = "damaged"
    model: str = ""
    of: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None


def past_runs(folder: Path) -> list[PastRun]:
    """The runs below a folder, the newest first, and those with a damaged record last."""
    found = [_past_run(path.parent) for path in sorted(folder.rglob(RECORD))]
    return sorted(found, key=lambda run: run.started, reverse=True)


def _past_run(folder: Path) -> PastRun:
    try:
        record = load_record(folder)
        learns = record.get("learns") or {}
        return PastRun(
            folder=folder,
            app=str(record["app"]),
            started=str(record["started"]),
            outcome=str(record["outcome"]),
            model=str(learns.get("model", "")),
            of=str(learns.get("task") or learns.get("objective", "")),
            metrics={str(name): float(value) for name, value in (record.get("metrics") or {}).items()},
            seconds=seconds_of(record),
        )
    except (KeyError, AttributeError, TypeError, ValueError):  # of a file that no run wrote
        return PastRun(folder=folder)


def seconds_of(record: dict[str, Any]) -> float | None:
    """How long a run took since it was last started; None where it has not ended."""
    if record["ended"] is None:
        return None
    began, ended = (datetime.fromisoformat(str(record[name])) for name in ("started", "ended"))
    return (ended - began).total_seconds()
