"""A prepared dataset as plain values, for tests to compare."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from slices.training.data import StayStore
from slices.training.data.store import ARRAYS, MANIFEST, TABLES

Event = tuple[int, float, str, float]


def events(store: StayStore) -> list[Event]:
    """Stay, hour, variable and value of every event, as they are stored."""
    stay = np.repeat(store.stay_id, np.diff(store.offsets)).tolist()
    names = [store.variables[i].name for i in store.variable]
    return list(zip(stay, store.time.tolist(), names, store.value.tolist(), strict=True))


def counts(store: StayStore) -> dict[str, int]:
    """How often each rule applied."""
    return {rule: entry["count"] for rule, entry in store.manifest.drops.items()}


def recorded(folder: Path, **counts: int) -> None:
    """Has the manifest agree with the files of a dataset, and say other counts, so that no such thing betrays
    what was done to them."""
    manifest = json.loads((folder / MANIFEST).read_text())
    for name in (*ARRAYS, *TABLES):
        content = (folder / name).read_bytes()
        manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest["counts"] |= counts
    (folder / MANIFEST).write_text(json.dumps(manifest))
