"""What a dataset and its batches should hold, by slow and obvious loops over plain values."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from slices.training.data import StayStore, Variable
from slices.training.data.columns import match_columns
from slices.training.data.views import View
from stored import Event, counts, events

Cells = dict[str, tuple[float, int]]  # of one step: value and count by variable
AGGREGATES: dict[str, Any] = {
    "mean": lambda values: sum(values) / len(values),
    "last": lambda values: values[-1],
    "min": min,
    "max": max,
}


def number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


class Reference:
    """Stays, events and counts as they should be; who reads raw files fills them in."""

    def __init__(self) -> None:
        self.stays: dict[int, tuple[int, str, float]] = {}  # patient, set and length of each
        self.events: list[tuple[int | None, float | None, str, float | None]] = []
        self.counts = Counter[str]()

    def clean(self, variables: Mapping[str, Variable]) -> None:
        """Repair, keep or count every event by what its variable declares."""
        given, self.events = self.events, []
        for stay, time, name, value in given:
            repaired = self.repaired(value, variables[name])
            rule = self.rule(stay, time, repaired, variables[name])
            if rule:
                self.counts[rule] += 1
            else:
                self.events.append((stay, time, name, repaired))

    def repaired(self, value: float | None, variable: Variable) -> float | None:
        for repair in variable.repairs:
            if value is not None and repair.low <= value <= repair.high:
                self.counts[repair.rule] += 1
                return value * repair.factor + repair.offset
        return value

    def rule(
        self, stay: int | None, time: float | None, value: float | None, variable: Variable
    ) -> str | None:
        if stay not in self.stays:
            return "unknown_stay"
        if value is None or not math.isfinite(value):
            return "not_finite"
        if time is None or not 0 <= time <= self.stays[stay][2]:
            return "bad_time"
        return None if variable.low <= value <= variable.high else "out_of_range"


def assert_stored(store: StayStore, wanted: Reference) -> None:
    """The dataset holds these stays and events, in the order of time, and these counts."""
    found = events(store)
    assert all(a[0] != b[0] or a[1] <= b[1] for a, b in pairwise(found))
    kept: Any = sorted(wanted.events)
    assert [event[:3] for event in sorted(found)] == [(i, float(np.float32(t)), n) for i, t, n, _ in kept]
    assert [event[3] for event in sorted(found)] == pytest.approx([event[3] for event in kept], rel=1e-5)
    stays = {i: (patient, group, length) for i, patient, group, length in store.stays.iter_rows()}
    assert stays == {i: (p, s, float(np.float32(length))) for i, (p, s, length) in wanted.stays.items()}
    assert counts(store) == {rule: n for rule, n in wanted.counts.items() if n}


def assert_cut(store: StayStore, kept: Iterable[Any], *, last: bool = True) -> None:
    """A batch of all stays has these events in its cells, however it is cut.

    Without ``last`` cells with the last value are not looked at: of several at one time it is any.
    """
    of_stay = defaultdict[int, list[Event]](list)
    for event in sorted(kept):
        of_stay[event[0]].append(event)
    for aggregate in AGGREGATES if last else AGGREGATES.keys() - {"last"}:
        for resolution, horizon in ((1.0, 48.0), (2.5, 24.0), ("timestamps", 48.0), (1.0, 2.0)):
            _assert_cut(store, of_stay, _view(store, resolution, horizon, aggregate))


def _assert_cut(store: StayStore, of_stay: Mapping[int, list[Event]], view: View) -> None:
    batch = {key: value.numpy() for key, value in view.cut(store, np.arange(len(store))).items()}
    assert batch["stay_id"].tolist() == store.stay_id.tolist()
    for row, stay in enumerate(store.stay_id.tolist()):
        times, cells = _slow_cut(of_stay[stay], float(store.length_hours[row]), store.variables, view)
        n = len(times)
        assert batch["padding_mask"][row].tolist() == [i < n for i in range(len(batch["times"][row]))]
        assert batch["times"][row, :n] == pytest.approx(times) and not batch["times"][row, n:].any()
        observed = zip(*np.nonzero(batch["mask"][row]), strict=True)
        found: list[Cells] = [{} for _ in times]
        for step, column in observed:
            cell = batch["timeseries"][row, step, column], int(batch["counts"][row, step, column])
            found[step][store.variables[column].name] = cell
        for one, other in zip(found, cells, strict=True):
            assert {name: n for name, (_, n) in one.items()} == {name: n for name, (_, n) in other.items()}
            for name, (value, _) in other.items():
                assert one[name][0] == pytest.approx(value, rel=1e-5), name
        assert not batch["timeseries"][row][~batch["mask"][row]].any()
        assert not batch["counts"][row][~batch["mask"][row]].any()


def _slow_cut(
    of_stay: Sequence[Event], length: float, variables: Sequence[Variable], view: View
) -> tuple[list[float], list[Cells]]:
    """Times and cells of the real steps of one stay."""
    known = {variable.name: variable for variable in variables}
    ends_first = length <= view.horizon
    seen = [
        (float(np.float32(time)), name, value)
        for _, time, name, value in of_stay
        if known[name].static or (time <= length if ends_first else time < view.horizon)
    ]
    width = view.bin_width
    if width is None:
        times = sorted({time for time, name, _ in seen if not known[name].static}) or [0.0]
    else:
        n_real = max(1, math.ceil(round(min(length, view.horizon) / width, 4)))
        times = [i * width for i in range(n_real)]
    cells: list[dict[str, list[float]]] = [defaultdict(list) for _ in times]
    for time, name, value in seen:
        step = times.index(time) if width is None and not known[name].static else 0
        if width is not None and not known[name].static:
            step = min(math.floor(round(time / width, 4)), len(times) - 1)
        cells[step][name].append(value)
    return times, [
        {name: (_aggregated(values, known[name], view), len(values)) for name, values in cell.items()}
        for cell in cells
    ]


def _aggregated(values: list[float], variable: Variable, view: View) -> float:
    if variable.aggregate == "sum":
        return sum(values)
    return float(AGGREGATES[view.aggregate](values))


def _view(store: StayStore, resolution: Any, horizon: float, aggregate: Any) -> View:
    """A view of all variables of a dataset."""
    columns = match_columns(store.variables)
    return View(
        column=columns.of_variable,
        static=columns.is_static,
        summed=columns.is_summed,
        resolution=resolution,
        horizon=horizon,
        aggregate=aggregate,
    )
