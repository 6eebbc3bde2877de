"""Batches against an obvious loop over stays and events."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slices.training.data import StayStore, prepare_dataset
from slices.training.data.views import View

N_COLUMNS, AMOUNT, STATIC = 4, 1, 3
AGGREGATES: dict[str, Any] = {"mean": np.mean, "last": lambda values: values[-1], "min": min, "max": max}

# Minutes, so that edges of bins, the very end and equal times come up often.
times = st.one_of(
    st.integers(0, 48 * 60).map(lambda m: m / 60), st.sampled_from([0.0, 12.0, 24.0, 47.99, 48.0])
)
event = st.tuples(times, st.integers(0, N_COLUMNS - 2), st.floats(-50, 250, width=32))
stay = st.tuples(
    st.sampled_from([48.0, 20.0, 7.5]),
    st.lists(event, max_size=25),
    st.none() | st.floats(0, 100, width=32),
)
cohorts = st.lists(stay, min_size=1, max_size=5)


def store_of(cohort: list[Any], table_source: Any, directory: Path) -> StayStore:
    stays = [(i + 1, i + 1, "a", length) for i, (length, _, _) in enumerate(cohort)]
    events = [
        (i + 1, time, variable, value)
        for i, (length, rows, _) in enumerate(cohort)
        for time, variable, value in rows
        if time <= length and variable != 2
    ]
    events += [(i + 1, 0.0, STATIC, age) for i, (_, _, age) in enumerate(cohort) if age is not None]
    return prepare_dataset(table_source(stays, events), directory / "dataset")


def view(**changes: Any) -> View:
    static, summed = np.arange(4) == STATIC, np.arange(4) == AMOUNT
    options = {"column": np.arange(4), "static": static, "summed": summed, "resolution": 1.0, "horizon": 48.0}
    return View(**(options | changes))


def seen_events(store: StayStore, stay: int, view: View, until: float) -> list[tuple[float, int, float]]:
    """What may be used of a stay's dynamic events, in time order."""
    length = float(store.length_hours[stay])
    end = min(length, view.horizon)
    rows = []
    for i in range(store.offsets[stay], store.offsets[stay + 1]):
        time, variable = float(store.time[i]), int(store.variable[i])
        ends_here = time == end == length and until >= length
        if variable != STATIC and (time < min(end, until) or ends_here):
            rows.append((time, variable, float(store.value[i])))
    return rows


def static_value(store: StayStore, stay: int) -> float | None:
    for i in range(store.offsets[stay], store.offsets[stay + 1]):
        if store.variable[i] == STATIC:
            return float(store.value[i])
    return None


def reference(store: StayStore, stay: int, view: View, until: float) -> dict[str, Any]:
    """One stay, cell by cell: (times of real steps, {(step, column): [values]})."""
    events = seen_events(store, stay, view, until)
    cells: dict[tuple[int, int], list[float]] = {}
    if isinstance(view.resolution, str):
        times = sorted({time for time, _, _ in events})[-(view.max_steps or 10**9) :] or [0.0]
        placed = [(times.index(time), variable, value) for time, variable, value in events if time in times]
    else:
        seen = min(float(store.length_hours[stay]), view.horizon, until)
        n_steps = max(1, math.ceil((seen - 1e-5) / view.resolution))
        times = [step * view.resolution for step in range(n_steps)]
        placed = [
            (min(int((time + 1e-5) // view.resolution), n_steps - 1), variable, value)
            for time, variable, value in events
        ]
    for step, variable, value in placed:
        cells.setdefault((step, variable), []).append(value)
    if (age := static_value(store, stay)) is not None:
        cells[0, STATIC] = [age]
    return {"times": times, "cells": cells}


def check(batch: dict[str, torch.Tensor], store: StayStore, view: View, until: list[float]) -> None:
    for row in range(len(store)):
        expected = reference(store, row, view, until[row])
        n_real = len(expected["times"])
        assert batch["padding_mask"][row].tolist() == [t < n_real for t in range(batch["mask"].shape[1])]
        np.testing.assert_allclose(batch["times"][row, :n_real], expected["times"], rtol=1e-6)
        assert not batch["times"][row, n_real:].any()
        observed = {tuple(cell) for cell in batch["mask"][row].nonzero().tolist()}
        assert observed == set(expected["cells"])
        for (step, column), values in expected["cells"].items():
            value = AGGREGATES[view.aggregate](values)
            value = np.sum(values) if column == AMOUNT else value
            np.testing.assert_allclose(batch["timeseries"][row, step, column], value, rtol=1e-4, atol=1e-4)
            assert batch["counts"][row, step, column] == len(values)
        assert not batch["timeseries"][row][~batch["mask"][row]].any()
        assert not batch["counts"][row][~batch["mask"][row]].any()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cohort=cohorts,
    resolution=st.sampled_from([1.0, 0.5, 2.0, 5.0, "timestamps"]),
    horizon=st.sampled_from([48.0, 24.0, 10.0]),
    aggregate=st.sampled_from(["mean", "last", "min", "max"]),
    cap=st.sampled_from([None, 1, 3]),
    until=st.lists(st.sampled_from([0.0, 6.0, 24.0, 48.0, math.inf]), min_size=5, max_size=5),
)
def test_a_batch_equals_the_obvious_loop(
    cohort: list[Any],
    resolution: Any,
    horizon: float,
    aggregate: Any,
    cap: int | None,
    until: list[float],
    table_source: Any,
) -> None:
    cut = view(
        resolution=resolution,
        horizon=horizon,
        aggregate=aggregate,
        max_steps=cap if resolution == "timestamps" else None,
    )
    with tempfile.TemporaryDirectory() as directory:
        store = store_of(cohort, table_source, Path(directory))
        ends = np.array(until[: len(store)], dtype=np.float32)
        check(cut.cut(store, np.arange(len(store)), ends), store, cut, until)


def test_hours_and_the_very_end(tmp_path: Path, table_source: Any) -> None:
    events = [(1, 0.999, 0, 1.0), (1, 1.0, 0, 2.0), (1, 47.5, 0, 3.0), (1, 48.0, 0, 5.0), (1, 0.0, 3, 60.0)]
    store = prepare_dataset(table_source([(1, 1, "a", 48.0)], events), tmp_path / "d")
    batch = view().cut(store, np.array([0]))
    assert batch["timeseries"].shape == (1, 48, 4)
    assert batch["timeseries"][0, [0, 1, 47], 0].tolist() == [1.0, 2.0, 4.0]
    assert batch["counts"][0, [0, 1, 47], 0].tolist() == [1.0, 1.0, 2.0]
    assert batch["mask"][0, :, 3].nonzero().tolist() == [[0]]


@pytest.mark.parametrize("resolution", [1.0, "timestamps"])
def test_an_empty_stay_has_a_step_and_is_finite(tmp_path: Path, table_source: Any, resolution: Any) -> None:
    store = prepare_dataset(table_source([(1, 1, "a", 48.0)], []), tmp_path / "d")
    batch = view(resolution=resolution).cut(store, np.array([0]))
    assert batch["padding_mask"].any() and not batch["mask"].any()
    assert all(torch.isfinite(tensor.double()).all() for tensor in batch.values())


def test_an_event_at_the_horizon_of_a_longer_stay_is_not_seen(tmp_path: Path, table_source: Any) -> None:
    events = [(1, 23.5, 0, 80.0), (1, 24.0, 0, 250.0)]
    longer = prepare_dataset(table_source([(1, 1, "a", 48.0)], events), tmp_path / "longer")
    ends = prepare_dataset(table_source([(1, 1, "a", 24.0)], events), tmp_path / "ends")
    for resolution in (1.0, "timestamps"):
        cut = view(resolution=resolution, horizon=24.0)
        assert float(cut.cut(longer, np.array([0]))["timeseries"].max()) == 80.0
        assert float(cut.cut(ends, np.array([0]))["timeseries"].max()) > 80.0  # its own end belongs to it


def test_what_lies_at_or_after_the_prediction_time_cannot_be_seen(tmp_path: Path, table_source: Any) -> None:
    early = [(1, 3.0, 0, 80.0), (1, 23.99, 1, 2.0)]
    late = [(1, 24.0, 0, 250.0), (1, 30.0, 1, 9.0), (1, 48.0, 0, 1.0)]
    stays = [(1, 1, "a", 48.0)]
    without = prepare_dataset(table_source(stays, early), tmp_path / "without")
    planted = prepare_dataset(table_source(stays, early + late), tmp_path / "with")
    until = np.array([24.0], dtype=np.float32)
    for cut in (view(), view(resolution="timestamps"), view(horizon=24.0)):
        one, other = (cut.cut(store, np.array([0]), until) for store in (without, planted))
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_order_of_stays_in_a_batch_is_the_one_asked_for(synthetic: StayStore) -> None:
    n = len(synthetic.variables)
    none = np.zeros(n, dtype=bool)
    cut = View(column=np.arange(n), static=none, summed=none, resolution=1.0, horizon=48.0)
    order = np.array([7, 2, 299, 0])
    together = cut.cut(synthetic, order)
    assert together["stay_id"].tolist() == synthetic.stay_id[order].tolist()
    for row, position in enumerate(order):
        alone = cut.cut(synthetic, np.array([position]))
        assert all(torch.equal(alone[key][0], together[key][row]) for key in alone)


def test_columns_are_chosen_and_ordered(tmp_path: Path, table_source: Any) -> None:
    store = prepare_dataset(
        table_source([(1, 1, "a", 48.0)], [(1, 1.0, 0, 80.0), (1, 1.0, 1, 2.0), (1, 0.0, 3, 60.0)]),
        tmp_path / "d",
    )
    chosen = view(
        column=np.array([1, -1, -1, 0]), static=np.array([True, False]), summed=np.zeros(2, dtype=bool)
    )
    batch = chosen.cut(store, np.array([0]))
    assert batch["timeseries"].shape == (1, 48, 2)
    assert batch["timeseries"][0, 0, 0] == 60.0 and batch["timeseries"][0, 1, 1] == 80.0
    assert batch["mask"].sum() == 2
