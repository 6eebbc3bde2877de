"""One pass over the events of a dataset, in blocks of stays: counts, and values of a sample of stays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from slices.training.data.sampling import MOST, sample_stays
from slices.training.data.store import StayStore

BLOCK = 4_000_000  # events read at a time

Array = npt.NDArray[Any]


class Counts(NamedTuple):
    """By variable, (V,): events, stays that have it, their hours, and hourly cells in which it is there."""

    events: Array
    stays: Array
    hours: Array
    cells: Array


class Sample(NamedTuple):
    """Of the sampled stays: events, measurements a stay, and gaps (hours), each with its variable.

    All three are sorted by the variable.
    """

    value: Array
    value_row: Array
    value_variable: Array
    per_stay: Array
    per_stay_variable: Array
    gap: Array
    gap_variable: Array

    def of(self, variable: int) -> tuple[Array, Array, Array, Array]:
        """Values, the rows of their stays, measurements a stay and gaps of one variable."""
        value, per_stay, gap = (
            slice(*np.searchsorted(of, (variable, variable + 1)))
            for of in (self.value_variable, self.per_stay_variable, self.gap_variable)
        )
        return self.value[value], self.value_row[value], self.per_stay[per_stay], self.gap[gap]


def hours_of(store: StayStore) -> Array:
    """Hourly cells of each stay: its length rounded up, and at least one."""
    return np.asarray(np.maximum(np.ceil(store.length_hours.astype(np.float64)), 1))


def measure(store: StayStore, *, block: int = BLOCK, most: int = MOST) -> tuple[Counts, Sample]:
    """Counts over all stays, and the sample."""
    n_variables, hours = len(store.variables), hours_of(store)
    sampled = sample_stays(store.stay_id, len(store.value), most)
    counts = Counts(*(np.zeros(n_variables) for _ in Counts._fields))
    samples = []
    for first, last in _blocks(store.offsets, block):
        events = _Block(store, first, last)
        events.count(hours, counts)
        samples.append(events.sample(sampled))
    pieces = Sample(*(np.concatenate(piece) for piece in zip(*samples, strict=True)))
    return counts, _sorted(pieces)


def _blocks(offsets: Array, size: int) -> Iterator[tuple[int, int]]:
    """Stays from one row to before another, with about ``size`` events, or one stay with more."""
    ends = np.searchsorted(offsets, np.arange(size, offsets[-1], size))
    bounds = np.unique(np.concatenate([[0], ends, [len(offsets) - 1]]))
    yield from zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)


def _sorted(sample: Sample) -> Sample:
    order = np.argsort(sample.value_variable, kind="stable")
    counts = np.argsort(sample.per_stay_variable, kind="stable")
    gaps = np.argsort(sample.gap_variable, kind="stable")
    places = (order, order, order, counts, counts, gaps, gaps)
    return Sample(*(piece[place] for piece, place in zip(sample, places, strict=True)))


class _Block:
    """The events of some stays in the order of variable, stay and time."""

    def __init__(self, store: StayStore, first: int, last: int) -> None:
        events = slice(int(store.offsets[first]), int(store.offsets[last]))
        order = np.argsort(store.variable[events], kind="stable")
        row = np.repeat(np.arange(first, last, dtype=np.int32), np.diff(store.offsets[first : last + 1]))
        self.row = row[order]
        self.variable, self.time, self.value = (
            array[events][order] for array in (store.variable, store.time, store.value)
        )
        self.is_first = np.ones(len(order), dtype=bool)  # of its variable in its stay
        self.is_first[1:] = np.diff(self.variable).astype(bool) | np.diff(self.row).astype(bool)

    def count(self, hours: Array, counts: Counts) -> None:
        """Adds this block to the counts."""
        first, variable = self.is_first, self.variable
        cell = np.minimum(self.time, hours[self.row] - 1).astype(np.int32)
        is_new = first.copy()
        is_new[1:] |= np.diff(cell).astype(bool)
        n = len(counts.events)
        counts.events[:] += np.bincount(variable, minlength=n)
        counts.stays[:] += np.bincount(variable[first], minlength=n)
        counts.hours[:] += np.bincount(variable[first], weights=hours[self.row[first]], minlength=n)
        counts.cells[:] += np.bincount(variable[is_new], minlength=n)

    def sample(self, sampled: npt.NDArray[np.bool_]) -> Sample:
        """What belongs to the sampled stays."""
        keep, start = sampled[self.row], np.flatnonzero(self.is_first)
        per_stay = np.diff(np.append(start, len(self.row)))
        kept, follows = keep[start], np.flatnonzero(keep & ~self.is_first)
        return Sample(
            value=self.value[keep],
            value_row=self.row[keep],
            value_variable=self.variable[keep],
            per_stay=per_stay[kept],
            per_stay_variable=self.variable[start[kept]],
            gap=self.time[follows] - self.time[follows - 1],
            gap_variable=self.variable[follows],
        )
