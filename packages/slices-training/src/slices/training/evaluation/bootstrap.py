"""Bootstrap intervals by patient, for one set of predictions or for the difference of two.

Patients are drawn with replacement, each with all rows of theirs: rows of one patient are not
independent. Resamples are weights on the rows, so that a metric of all resamples is one vectorised
sum. Efron & Tibshirani, "An introduction to the bootstrap" (1993), chapters 13 (percentile interval)
and 8.5 (clusters as units). The models and their training draws are taken as given.

Letters: N rows, P patients, R resamples.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
CHUNK = 250  # resamples at once: a few megabytes of weights, which stay in the cache
Key = TypeVar("Key", bound=Hashable)


class Predictions(NamedTuple):
    """What a model said of some rows: one row a stay, or one a stay and step."""

    row_id: Array
    """(N,) int: each names one row, the same for all models (the stay id where there is one row a stay)."""
    patient_id: Array
    """(N,) int."""
    label: Array
    """(N,) or (N, C); NaN where one of several labels is missing."""
    prediction: Array
    """(N,) or (N, C), as the metric takes it."""


class Interval(NamedTuple):
    """An estimate with the ends of its interval."""

    estimate: float
    low: float
    high: float


class WeightedMetric(Protocol):
    """A metric of weighted rows, such as those in ``slices.training.evaluation.weighted``."""

    def __call__(self, prediction: Array, label: Array, weight: Array, /) -> Array:
        """Predictions and labels ``(N, ...)``, weights ``(R, N)`` -> ``(R,)``."""


def bootstrap_interval(
    metric: WeightedMetric,
    runs: Predictions | Sequence[Predictions],
    *,
    n_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The metric, averaged over runs (draws of labels, seeds, folds), with its percentile interval.

    One draw of patients counts for all runs, which may share their rows (seeds) or not (folds).

    >>> from slices.training.evaluation.weighted import auroc
    >>> run = Predictions(np.arange(4), np.arange(4), np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9]))
    >>> bootstrap_interval(auroc, run)
    Interval(estimate=1.0, low=1.0, high=1.0)
    """
    terms = [(run, 1.0) for run in _listed(runs)]
    return _interval(metric, terms, n_resamples, level, seed)


def paired_interval(
    metric: WeightedMetric,
    runs: Predictions | Sequence[Predictions],
    others: Predictions | Sequence[Predictions],
    *,
    n_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The metric of ``runs`` minus that of ``others``, averaged over pairs, with its percentile interval.

    The k-th of ``runs`` is compared with the k-th of ``others``, which must hold the same rows.

    Raises:
        ValueError: the two do not pair up, or one pair differs in rows, patients or labels.

    >>> from slices.training.evaluation.weighted import auroc
    >>> truth = np.array([0, 0, 1, 1])
    >>> good = Predictions(np.arange(4), np.arange(4), truth, np.array([0.1, 0.2, 0.8, 0.9]))
    >>> paired_interval(auroc, good, good._replace(prediction=1 - good.prediction)).estimate
    1.0
    """
    runs, others = _listed(runs), _listed(others)
    if len(runs) != len(others):
        raise ValueError(f"{len(runs)} runs cannot be paired with {len(others)}: give the same draws of both")
    pairs = [aligned(run, other) for run, other in zip(runs, others, strict=True)]
    terms = [(run, 1.0) for run, _ in pairs] + [(other, -1.0) for _, other in pairs]
    return _interval(metric, terms, n_resamples, level, seed)


def metric_draws(
    metrics: Mapping[str, WeightedMetric],
    runs: Mapping[Key, Predictions],
    *,
    patients: Array | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
) -> dict[Key, dict[str, NDArray[np.float64]]]:
    """Each metric of each run, ``(1 + R,)``: first of the rows as they are, then of each resample.

    One draw of patients counts for all runs (models, or groups of rows), and for all calls with the same
    patients and seed, so that differences of what comes out are paired. ``patients``: those that are drawn,
    where they are more than the runs have (ids, repeated or not).

    >>> from slices.training.evaluation.weighted import mae
    >>> run = Predictions(np.arange(2), np.arange(2), np.array([0.0, 0.0]), np.array([1.0, 3.0]))
    >>> metric_draws({"mae": mae}, {"mine": run}, n_resamples=3)["mine"]["mae"]
    array([2., 3., 2., 1.])
    """
    everybody, of_run = _patients(list(runs.values()), patients)
    parts: dict[Key, dict[str, list[Array]]] = {key: {name: [] for name in metrics} for key in runs}
    for counts in _with_the_rows_as_they_are(len(everybody), n_resamples, seed):
        for (key, run), rows in zip(runs.items(), of_run, strict=True):
            weight = counts[:, rows]
            for name, metric in metrics.items():
                parts[key][name].append(metric(run.prediction, run.label, weight))
    return {
        key: {name: np.concatenate(values) for name, values in of_key.items()}
        for key, of_key in parts.items()
    }


def percentile_interval(draws: Array, level: float = 0.95) -> Interval:
    """From what ``metric_draws`` gives of one metric, resamples that do not define it left out.

    >>> percentile_interval(np.array([2.0, 1.0, 2.0, 3.0, np.nan]), level=0.5)
    Interval(estimate=2.0, low=1.5, high=2.5)
    """
    defined = draws[1:][np.isfinite(draws[1:])]
    tail = (1 - level) / 2
    low, high = np.quantile(defined, [tail, 1 - tail]) if len(defined) else (np.nan, np.nan)
    return Interval(float(draws[0]), float(low), float(high))


def patient_counts(n_patients: int, n_resamples: int, seed: int = 0) -> Iterator[NDArray[np.float64]]:
    """How often each patient occurs in each resample: arrays ``(some, P)``, ``n_resamples`` rows in all.

    >>> counts = np.concatenate(list(patient_counts(3, n_resamples=1000)))
    >>> counts.shape, bool((counts.sum(1) == 3).all())
    ((1000, 3), True)
    """
    generator = np.random.default_rng(seed)
    for start in range(0, n_resamples, CHUNK):
        size = min(CHUNK, n_resamples - start)
        drawn = (
            generator.integers(n_patients, size=(size, n_patients)) + n_patients * np.arange(size)[:, None]
        )
        count = np.bincount(drawn.ravel(), minlength=size * n_patients)
        yield count.reshape(size, n_patients).astype(np.float64)


def _interval(
    metric: WeightedMetric, terms: list[tuple[Predictions, float]], n_resamples: int, level: float, seed: int
) -> Interval:
    """Of the sum of signed terms, divided by the number of those with a plus."""
    if not terms or not 0 < level < 1 or n_resamples < 1:
        raise ValueError(
            f"an interval needs predictions, a level in (0, 1) and resamples: got {len(terms)} predictions, "
            f"level={level}, n_resamples={n_resamples}"
        )
    runs, signs = zip(*terms, strict=True)
    _require_numbers(runs)
    patients, rows = _patients(runs)
    scale = np.asarray(signs) / sum(sign > 0 for sign in signs)

    def total(counts: Array) -> Array:
        weights = (counts[:, of_run] for of_run in rows)
        values = [metric(run.prediction, run.label, w) for run, w in zip(runs, weights, strict=True)]
        return np.asarray(scale @ np.stack(values))

    chunks = _with_the_rows_as_they_are(len(patients), n_resamples, seed)
    return percentile_interval(np.concatenate([total(counts) for counts in chunks]), level)


def _patients(runs: Sequence[Predictions], others: Array | None = None) -> tuple[Array, list[Array]]:
    """The patients of all runs, and others, and for each run the position among them of each row's."""
    ids = [run.patient_id for run in runs]
    everybody = np.concatenate(ids if others is None else [*ids, others])
    patients, index = np.unique(everybody, return_inverse=True)
    return patients, np.split(index, np.cumsum([len(of_run) for of_run in ids]))[:-1]


def _with_the_rows_as_they_are(n_patients: int, n_resamples: int, seed: int) -> Iterator[Array]:
    """Every patient once, then the resamples."""
    yield np.ones((1, n_patients))
    yield from patient_counts(n_patients, n_resamples, seed)


def _listed(runs: Predictions | Sequence[Predictions]) -> list[Predictions]:
    return [runs] if isinstance(runs, Predictions) else list(runs)


def aligned(run: Predictions, other: Predictions) -> tuple[Predictions, Predictions]:
    """Both in the order of their row ids.

    Raises:
        ValueError: they differ in rows, patients or labels, or predictions hold NaN.
    """
    run, other = _by_row(run), _by_row(other)
    if not np.array_equal(run.row_id, other.row_id):
        missing = len(np.setxor1d(run.row_id, other.row_id))
        raise ValueError(f"{missing} rows are in one of the two predictions only: compare on the same rows")
    if not np.array_equal(run.patient_id, other.patient_id):
        raise ValueError("the two predictions name different patients for the same rows")
    if not np.array_equal(run.label, other.label, equal_nan=True):
        raise ValueError("the two predictions have different labels for the same rows")
    _require_numbers([run, other])
    return run, other


def _require_numbers(runs: Sequence[Predictions]) -> None:
    if any(np.isnan(run.prediction).any() for run in runs):
        raise ValueError("predictions hold NaN: no metric is defined on them")


def _by_row(run: Predictions) -> Predictions:
    order = np.argsort(run.row_id, kind="stable")
    if len(np.unique(run.row_id)) < len(order):
        raise ValueError(
            "row ids repeat: give each row an id of its own (not the stay id where a stay has several)"
        )
    return Predictions(*(np.asarray(part)[order] for part in run))
