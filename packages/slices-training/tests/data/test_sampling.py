"""A sample of the stays stands for all of them: the same one for statistics and for reports."""

from __future__ import annotations

import numpy as np
import pytest

from slices.training.data import StayStore
from slices.training.data.report.measurements import measure
from slices.training.data.sampling import sample_stays
from slices.training.data.statistics import fit_normalizer
from slices.training.data.views import View


def test_about_as_many_rows_as_asked_for_from_whatever_company() -> None:
    ids = np.arange(100_000)
    taken = sample_stays(ids, n_rows=1_000_000, most=250_000)
    assert taken.mean() == pytest.approx(0.25, abs=0.01)
    backwards = sample_stays(ids[::-1], n_rows=1_000_000, most=250_000)
    assert (backwards[::-1] == taken).all()
    more = sample_stays(ids, n_rows=1_000_000, most=500_000)
    assert more[taken].all() and more.sum() > taken.sum()
    assert sample_stays(ids, n_rows=1_000_000, most=1_000_000).all() and sample_stays(ids, n_rows=0).all()


def test_statistics_and_report_take_the_same_stays(synthetic: StayStore) -> None:
    most, n_events = 60_000, len(synthetic.value)
    columns = len(synthetic.variables)
    nothing = np.zeros(columns, dtype=bool)
    view = View(column=np.arange(columns), static=nothing, summed=nothing, resolution=1.0, horizon=48.0)
    everyone = np.arange(len(synthetic))
    taken = everyone[sample_stays(synthetic.stay_id, n_events, most)]
    sampled = fit_normalizer(synthetic, view, everyone, most=most)
    by_hand, whole = fit_normalizer(synthetic, view, taken), fit_normalizer(synthetic, view, everyone)
    assert sampled.location.tolist() == by_hand.location.tolist() != whole.location.tolist()
    _, sample = measure(synthetic, most=most)
    assert np.unique(sample.value_row).tolist() == taken.tolist()
