from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slices.training.data import StayStore, build_source, prepare_dataset


def test_it_is_seeded_and_grows_without_changing_what_was_there(tmp_path: Path) -> None:
    def made(n_stays: int, seed: int = 0) -> StayStore:
        source = build_source({"name": "synthetic", "n_stays": n_stays, "seed": seed})
        return prepare_dataset(source, tmp_path / f"{n_stays}-{seed}")

    small, large, other = made(30), made(1500), made(30, seed=1)
    n_events = small.offsets[-1]
    np.testing.assert_array_equal(small.value, large.value[:n_events])
    np.testing.assert_array_equal(small.offsets, large.offsets[:31])
    assert other.offsets[-1] != n_events


def test_it_looks_like_intensive_care(synthetic: StayStore) -> None:
    dynamic = [i for i, variable in enumerate(synthetic.variables) if not variable.static]
    per_stay = np.diff(synthetic.offsets)
    rate = np.bincount(synthetic.variable, minlength=len(synthetic.variables)) / len(synthetic) / 48
    assert len(dynamic) >= 35 and 200 < per_stay.mean() < 800
    assert rate[dynamic].max() > 0.7 and rate[dynamic].min() < 0.05  # from monitored to seldom asked for
    assert len(np.unique(synthetic.patient_id)) < len(synthetic)  # some come back
    lactate = synthetic.value[synthetic.variable == [v.name for v in synthetic.variables].index("lactate")]
    assert np.quantile(lactate, 0.99) > 4 * np.median(lactate)


def test_the_unwell_are_measured_more_often(synthetic: StayStore) -> None:
    died = np.zeros(len(synthetic), dtype=bool)
    table = synthetic.labels("in_hospital_mortality")
    died[np.searchsorted(synthetic.stay_id, table["stay_id"].to_numpy())] = table["value"].to_numpy() == 1
    lab = np.isin(synthetic.variable, [i for i, v in enumerate(synthetic.variables) if v.transform == "log"])
    labs = np.add.reduceat(lab.astype(int), synthetic.offsets[:-1])
    assert labs[died].mean() > 1.15 * labs[~died].mean()


@pytest.mark.parametrize(
    ("task", "low", "high"),
    [("in_hospital_mortality", 0.08, 0.2), ("deterioration", 0.05, 0.2), ("organ_failure", 0.08, 0.3)],
)
def test_rates_are_those_of_a_ward(synthetic: StayStore, task: str, low: float, high: float) -> None:
    assert low < synthetic.labels(task)["value"].mean() < high
