"""Records of runs that nobody ran."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]


def write_record(folder: Path, **other: Any) -> Path:
    """A folder with the record of a complete pretraining, but for ``other``."""
    record: dict[str, Any] = {
        "app": "pretrain",
        "overrides": ["encoder=gru"],
        "started": "2026-01-02T03:04:05+00:00",
        "ended": "2026-01-02T03:05:06+00:00",
        "outcome": "complete",
        "earlier": [],
        "versions": {"torch": "2.13.0"},
        "platform": "Linux",
        "learns": {"model": "gru", "objective": "mae"},
        "metrics": {"val/loss": 0.5, "lr": 0.1},
    }
    folder.mkdir(parents=True)
    (folder / "record.yaml").write_text(yaml.safe_dump(record | other))
    return folder
