"""A dataset in numbers."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from slices.training.data.report.concerns import concerns
from slices.training.data.report.model import QUANTILES, Report
from slices.training.data.report.tasks import describe_tasks
from slices.training.data.report.variables import describe_variables
from slices.training.data.sampling import MOST, sample_stays
from slices.training.data.store import StayStore


def describe_dataset(store: StayStore, *, most: int = MOST, min_patients: int = 10) -> Report:
    """All that a report says of a dataset.

    Events are read once, in blocks of stays. Counts are exact; quantiles, medians and histograms come from
    a sample of the stays (by a hash of their id) where the dataset has more than ``most`` events. What is
    written of it shows nothing of fewer stays than ``min_patients``.
    """
    variables, tasks = describe_variables(store, most=most), describe_tasks(store, most=most)
    per_stay = np.diff(store.offsets)
    n_sampled = int(sample_stays(store.stay_id, len(store.value), most).sum())
    sets = store.stays["set"].fill_null("none").value_counts(sort=True)
    return Report(
        directory=str(store.directory),
        described=datetime.now(UTC).isoformat(timespec="seconds"),
        manifest=store.manifest,
        sets=dict(sets.iter_rows()),
        lengths=tuple(np.quantile(store.length_hours, QUANTILES).tolist()),
        events_per_stay=tuple(np.quantile(per_stay, QUANTILES).tolist()),
        without_events=int((per_stay == 0).sum()),
        sampled=n_sampled if n_sampled < len(store) else None,
        min_patients=min_patients,
        variables=variables,
        tasks=tasks,
        warnings=concerns(variables, tasks, min_patients),
    )
