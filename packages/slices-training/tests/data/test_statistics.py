from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slices.training.data import Variable, prepare_dataset
from slices.training.data.statistics import fit_normalizer
from slices.training.data.views import View

VARIABLES = (
    Variable(name="plain"),
    Variable(name="tail", transform="log"),
    Variable(name="constant"),
    Variable(name="mostly_zero"),
    Variable(name="sex", static=True),
    Variable(name="never"),
)


def view_until(horizon: float) -> View:
    static, summed = np.arange(6) == 4, np.zeros(6, dtype=bool)
    return View(column=np.arange(6), static=static, summed=summed, resolution=1.0, horizon=horizon)


@pytest.fixture
def fitted(tmp_path: Path, table_source: Any, stays_of_48_hours: Any) -> Any:
    rng = np.random.default_rng(0)
    events = []
    for stay in range(1, 201):
        events += [(stay, 1.0, 0, v) for v in rng.normal(80, 10, 5)]
        events += [(stay, 1.0, 1, v) for v in rng.lognormal(2, 1, 5)]
        events += [(stay, 1.0, 2, 7.0), (stay, 1.0, 3, float(stay % 10 == 0) * 3), (stay, 0.0, 4, stay % 2)]
    events += [(stay, 1.0, 0, 1e9) for stay in range(150, 201)]  # outside the training stays
    events += [(1, 40.0, 0, 1e9)] * 200  # beyond the horizon
    events += [(2, 2.0, 0, 1e6)]  # an outlier
    store = prepare_dataset(table_source(stays_of_48_hours(200), events, variables=VARIABLES), tmp_path / "d")
    view = view_until(24.0)
    return store, fit_normalizer(store, view, np.arange(140))


def test_location_and_scale_are_robust_and_of_the_training_stays_only(fitted: Any) -> None:
    _, normalizer = fitted
    assert normalizer.location[0] == pytest.approx(80, abs=1.5)
    assert normalizer.scale[0] == pytest.approx(10, abs=1.5)
    assert normalizer.location[1] == pytest.approx(np.log1p(np.exp(2)), abs=0.15)
    assert normalizer.scale[1] == pytest.approx(0.9, abs=0.2)


def test_constants_one_hots_and_the_unobserved_keep_a_sane_scale(fitted: Any) -> None:
    _, normalizer = fitted
    assert (normalizer.location[2], normalizer.scale[2]) == (7.0, 1.0)
    assert normalizer.scale[3] == pytest.approx(
        0.9, abs=0.2
    )  # no interquartile range: the standard deviation
    assert (normalizer.location[4], normalizer.scale[4]) == (0.0, 1.0)
    assert (normalizer.location[5], normalizer.scale[5]) == (0.0, 1.0)


def test_nothing_explodes(fitted: Any) -> None:
    store, normalizer = fitted
    view = view_until(48.0)
    batch = view.cut(store, np.arange(200))
    x = normalizer(batch["timeseries"], batch["mask"])
    assert torch.isfinite(x).all() and x.abs().max() <= 5
    assert not x[~batch["mask"]].any()


def test_an_infinite_value_never_reaches_the_dataset(tmp_path: Path, table_source: Any) -> None:
    events = [(1, 1.0, 0, float("inf")), (1, 1.0, 0, float("nan")), (1, 1.0, 0, 1e300), (1, 1.0, 0, 3.0)]
    source = table_source([(1, 1, "a", 48.0)], events, variables=VARIABLES)
    store = prepare_dataset(source, tmp_path / "d")
    assert store.value.tolist() == [3.0]
    assert store.manifest.drops["not_finite"]["count"] == 3
