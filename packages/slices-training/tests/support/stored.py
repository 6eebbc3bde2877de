"""A prepared dataset as plain values, for tests to compare."""

from __future__ import annotations

import numpy as np

from slices.training.data import StayStore

Event = tuple[int, float, str, float]


def events(store: StayStore) -> list[Event]:
    """Stay, hour, variable and value of every event, as they are stored."""
    stay = np.repeat(store.stay_id, np.diff(store.offsets)).tolist()
    names = [store.variables[i].name for i in store.variable]
    return list(zip(stay, store.time.tolist(), names, store.value.tolist(), strict=True))


def counts(store: StayStore) -> dict[str, int]:
    """How often each rule applied."""
    return {rule: entry["count"] for rule, entry in store.manifest.drops.items()}
