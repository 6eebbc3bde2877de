"""The numbers of each variable."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from slices.training.data.report.measurements import Array, Counts, Sample, hours_of, measure
from slices.training.data.report.model import QUANTILES, Sampling, Values, VariableReport
from slices.training.data.sampling import MOST
from slices.training.data.schema import Variable
from slices.training.data.statistics import IQR_OF_NORMAL
from slices.training.data.store import StayStore

BINS = 24
ENOUGH = 50  # values of a set, for its median to mean something


def describe_variables(store: StayStore, *, most: int = MOST) -> tuple[VariableReport, ...]:
    """Each variable of the dataset; what is not a count, from a sample of about ``most`` events."""
    counts, sample = measure(store, most=most)
    all_hours, sets = float(hours_of(store).sum()), store.stays["set"].fill_null("none")
    return tuple(
        VariableReport(
            variable=variable,
            sampling=_sampling(variable, position, counts, sample, len(store), all_hours),
            values=_values(variable, position, sample, sets),
        )
        for position, variable in enumerate(store.variables)
    )


def _sampling(
    variable: Variable, position: int, counts: Counts, sample: Sample, n_stays: int, all_hours: float
) -> Sampling:
    events, stays, hours, cells = (float(of[position]) for of in counts)
    _, _, per_stay, gap = sample.of(position)
    dynamic = not variable.static
    return Sampling(
        events=int(events),
        stays=int(stays),
        share=stays / n_stays,
        per_stay=float(np.median(per_stay)) if len(per_stay) else None,
        per_hour=events / hours if dynamic and hours else None,
        gap=float(np.median(gap)) if dynamic and len(gap) else None,
        cells=cells / all_hours if dynamic else None,
    )


def _values(variable: Variable, position: int, sample: Sample, sets: pl.Series) -> Values | None:
    unsorted, row, _, _ = sample.of(position)
    if not len(unsorted):
        return None
    value = np.sort(unsorted)
    quantiles = np.quantile(value, QUANTILES)
    scaled = _scaled(quantiles, variable)
    return Values(
        quantiles=tuple(quantiles.tolist()),
        at_low=_share_at(value, variable.low),
        at_high=_share_at(value, variable.high),
        is_constant=bool(value[0] == value[-1]),
        is_flag=bool(np.isin(value, (0, 1)).all()),
        spread=float(scaled[3] - scaled[1]) / IQR_OF_NORMAL,
        set_medians=_set_medians(sets.gather(row), unsorted, variable),
        histogram=_histogram(_scaled(_inner(value), variable)),
    )


def _set_medians(sets: pl.Series, value: Array, variable: Variable) -> dict[str, float]:
    """Of the sets with values enough, on the variable's own scale."""
    table = pl.DataFrame({"set": sets, "value": value}).group_by("set")
    medians = table.agg(pl.col("value").median(), n=pl.len()).filter(pl.col("n") >= ENOUGH).sort("set")
    return dict(zip(medians["set"], _scaled(medians["value"].to_numpy(), variable).tolist(), strict=True))


def _scaled(value: Array, variable: Variable) -> Array:
    """On the variable's own scale: logarithms of heavy tails, as for the encoder."""
    value = value.astype(np.float64)
    return np.sign(value) * np.log1p(np.abs(value)) if variable.transform == "log" else value


def unscaled(value: float, variable: Variable) -> float:
    """Back in the variable's unit."""
    return math.copysign(math.expm1(abs(value)), value) if variable.transform == "log" else value


def _share_at(value: Array, end: float) -> float:
    """The share of sorted values that lie at an end of the range."""
    start, stop = (np.searchsorted(value, np.float32(end), side=side) for side in ("left", "right"))
    return float(stop - start) / len(value)


def _inner(value: Array) -> Array:
    """Sorted values from the first to the last quantile, and always some."""
    low, *_, high = QUANTILES
    return value[math.floor(low * (len(value) - 1)) : math.ceil(high * (len(value) - 1)) + 1]


def _histogram(value: Array) -> tuple[int, ...]:
    """Counts of equal bins from the lowest to the highest; where few values differ, of each of these."""
    distinct, counts = np.unique(value, return_counts=True)
    if len(distinct) > BINS:
        counts, _ = np.histogram(value, BINS)
    return tuple(counts.tolist())
