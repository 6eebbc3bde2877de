"""Batches cut from the events of a dataset: grids of equal bins, measured timestamps, or single observations.

Values are aggregated in raw units, then normalised. No loop over stays.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slices.encoders import Normalizer
from slices.training.data.store import StayStore

EDGE = 1e-5  # hours: a time this close below a bin's edge is on it (float32 cannot say 0.7 h exactly)
BUCKET = (
    16  # timestamps are padded to a multiple of this, observations to four times it; few shapes then occur
)

Aggregate = Literal["mean", "last", "min", "max"]
Array = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]


class Events(NamedTuple):
    """The events of some samples: of which one (its row in the batch), when, which column, what."""

    row: Tensor
    time: Tensor
    column: Tensor
    value: Tensor
    static: Tensor

    def where(self, keep: Tensor) -> Events:
        """Those that are kept."""
        return self if bool(keep.all()) else Events(*(field[keep] for field in self))


class Steps(NamedTuple):
    """Where each event goes, and the time steps there are: step of each event, time and mask (B, T)."""

    step: Tensor
    times: Tensor
    padding_mask: Tensor


@dataclass(frozen=True, kw_only=True)
class View:
    """How stays, or windows of them, become tensors.

    ``column`` gives each variable of the dataset its column, or -1 to leave it out; ``static`` says of
    each column (D,) whether it is observed at the first real step only, ``summed`` whether it is an
    amount: its cells hold the sum of their values, those of other columns what ``aggregate`` says.
    ``resolution`` is the width of a bin in hours, "timestamps" (a cell is then one timestamp) or
    "observations" (one value each). Of more than ``max_steps`` timestamps, or observations, the most
    recent are kept. ``span``: the hours that a sample can hold; by default up to the horizon.
    """

    column: Index
    static: npt.NDArray[np.bool_]
    summed: npt.NDArray[np.bool_]
    resolution: float | Literal["timestamps", "observations"]
    horizon: float
    span: float | None = None
    max_steps: int | None = None
    aggregate: Aggregate = "mean"

    @property
    def bin_width(self) -> float | None:
        """Hours a bin of the grid; None where there is none."""
        return None if isinstance(self.resolution, str) else self.resolution

    @property
    def n_steps(self) -> int | None:
        """Time steps of the grid; None without one, where each batch has its own."""
        if self.bin_width is None:
            return None
        span = min(self.span or self.horizon, self.horizon)
        return max(1, math.ceil((span - EDGE) / self.bin_width))

    def on_edge(self, hours: npt.NDArray[np.floating]) -> Array:
        """The last edge of the grid's bins up to these hours; without a grid, the hours themselves."""
        if self.bin_width is not None:
            hours = np.floor(hours / self.bin_width) * self.bin_width
        return hours.astype(np.float32)

    def cut(
        self,
        store: StayStore,
        stays: Index,
        until: Array | None = None,
        start: Array | None = None,
        normalizer: Normalizer | None = None,
    ) -> dict[str, Tensor]:
        """The stays at these positions: the batch without labels, in raw units where not normalised.

        ``until (B,)``: hours from which on nothing is seen. A stay is seen up to and including its own
        end (an event exactly there belongs to the last step), unless ``until`` or the horizon comes
        first: events from then on may be what is predicted. ``start (B,)``: hours before which nothing
        is seen; by default 0. Statics are always seen.
        """
        length = torch.from_numpy(store.length_hours[stays])
        end = length.clamp(max=self.horizon)
        limit = torch.full_like(length, torch.inf) if until is None else torch.from_numpy(until)
        first = torch.zeros_like(length) if start is None else torch.from_numpy(start)
        closed = (limit >= length) & (length <= self.horizon)
        before = torch.where(closed, end.nextafter(torch.tensor(torch.inf)), limit.minimum(end))
        events = self._events(store, stays, first, before)
        if self.resolution == "observations":
            batch = self._observations(events, len(stays), normalizer)
        elif self.resolution == "timestamps":
            batch = self._cells(events, self._timestamps(events, len(stays)), normalizer)
        else:
            batch = self._cells(events, self._grid(events, first, end.minimum(limit)), normalizer)
        batch["stay_id"] = torch.from_numpy(store.stay_id[stays])
        batch["patient_id"] = torch.from_numpy(store.patient_id[stays])
        return batch

    def _events(self, store: StayStore, stays: Index, start: Tensor, before: Tensor) -> Events:
        first = store.offsets[stays]
        count = store.offsets[stays + 1] - first
        row = torch.from_numpy(np.repeat(np.arange(len(stays)), count))
        position = torch.from_numpy(np.repeat(first - np.cumsum(count) + count, count))
        position += torch.arange(len(position))
        time, variable, value = (array.index_select(0, position) for array in store.events)
        column = torch.from_numpy(self.column).index_select(0, variable.long())
        static = torch.from_numpy(self.static).index_select(0, column.clamp(min=0))
        events = Events(row, time, column, value, static)
        if (self.column < 0).any():
            events = events.where(column >= 0)
        if bool((before <= torch.from_numpy(store.length_hours[stays])).any()) or start.any():
            inside = events.time < before.index_select(0, events.row)
            inside &= events.time + EDGE >= start.index_select(0, events.row)
            events = events.where(inside | events.static)
        return events

    def _grid(self, events: Events, start: Tensor, seen: Tensor) -> Steps:
        assert self.bin_width is not None and self.n_steps is not None
        n_real = ((seen - start - EDGE) / self.bin_width).ceil().long().clamp(1, self.n_steps)
        since = events.time - start.index_select(0, events.row) if start.any() else events.time
        step = since.add(EDGE).div_(self.bin_width).long()
        step = step.minimum((n_real - 1).index_select(0, events.row))
        padding_mask = torch.arange(self.n_steps) < n_real.unsqueeze(1)
        times = start.unsqueeze(1) + torch.arange(self.n_steps) * self.bin_width
        return Steps(step.masked_fill_(events.static, 0), times.float() * padding_mask, padding_mask)

    def _timestamps(self, events: Events, n_stays: int) -> Steps:
        dynamic = ~events.static
        row, time = events.row[dynamic], events.time[dynamic]
        new = torch.ones_like(row, dtype=torch.bool)
        new[1:] = (row[1:] != row[:-1]) | (time[1:] != time[:-1])
        n_real = row[new].bincount(minlength=n_stays)
        dropped = (n_real - (self.max_steps or len(row))).clamp(min=0)
        step = torch.zeros_like(events.row)
        step[dynamic] = new.cumsum(0) - 1 - (n_real.cumsum(0) - n_real + dropped)[row]
        n_real = (n_real - dropped).clamp(min=1)
        n_steps = min(_bucketed(int(n_real.max()), BUCKET), self.max_steps or sys.maxsize)
        times = torch.zeros(n_stays, n_steps)
        kept = step[dynamic] >= 0
        times[row[kept], step[dynamic][kept]] = time[kept]
        return Steps(step, times, torch.arange(n_steps) < n_real.unsqueeze(1))

    def _cells(self, events: Events, steps: Steps, normalizer: Normalizer | None) -> dict[str, Tensor]:
        shape = (*steps.padding_mask.shape, len(self.static))
        step = steps.step
        if self.max_steps is not None:
            events, step = events.where(step >= 0), step[step >= 0]
        cell = (events.row * shape[1] + step) * shape[2] + events.column
        counts = torch.zeros(math.prod(shape)).scatter_add_(0, cell, torch.ones(len(cell)))
        value = self._aggregated(events, cell, counts)
        if normalizer is not None:
            value = normalizer.at(value, events.column)
        return {
            "timeseries": torch.zeros(math.prod(shape)).index_copy_(0, cell, value).view(shape),
            "mask": (counts > 0).view(shape),
            "counts": counts.view(shape),
            "times": steps.times,
            "padding_mask": steps.padding_mask,
        }

    def _aggregated(self, events: Events, cell: Tensor, counts: Tensor) -> Tensor:
        """What each event's cell holds, event by event: equal for those that share one."""
        value = events.value
        several = counts.index_select(0, cell)
        if self.aggregate == "mean":
            one = self._total(value, cell, counts) / several
        elif self.aggregate == "last":
            last = torch.zeros_like(counts)
            last.numpy()[cell.numpy()] = value  # in order of time; numpy keeps the last of one index
            one = last.index_select(0, cell)
        else:
            reduced = torch.zeros_like(counts)
            reduced.scatter_reduce_(0, cell, value, f"a{self.aggregate}", include_self=False)
            one = reduced.index_select(0, cell)
        if not self.summed.any():
            return one
        total = one * several if self.aggregate == "mean" else self._total(value, cell, counts)
        return torch.where(torch.from_numpy(self.summed).index_select(0, events.column), total, one)

    @staticmethod
    def _total(value: Tensor, cell: Tensor, counts: Tensor) -> Tensor:
        return torch.zeros_like(counts).scatter_add_(0, cell, value).index_select(0, cell)

    def _observations(self, events: Events, n_stays: int, normalizer: Normalizer | None) -> dict[str, Tensor]:
        """``value``, ``time``, ``variable`` (its column) and ``valid``, each (B, N), in the order of time."""
        if self.max_steps is not None:
            events = self._most_recent(events, n_stays, self.max_steps)
        count = events.row.bincount(minlength=n_stays)
        place = torch.arange(len(events.row)) - (count.cumsum(0) - count).index_select(0, events.row)
        width = _bucketed(int(count.max()), 4 * BUCKET)
        index = events.row * width + place
        value = events.value if normalizer is None else normalizer.at(events.value, events.column)

        def placed(what: Tensor) -> Tensor:
            empty = torch.zeros(n_stays * width, dtype=what.dtype)
            return empty.index_copy_(0, index, what).view(n_stays, width)

        return {
            "value": placed(value),
            "time": placed(events.time),
            "variable": placed(events.column),
            "valid": torch.arange(width) < count.unsqueeze(1),
        }

    @staticmethod
    def _most_recent(events: Events, n_stays: int, most: int) -> Events:
        """All statics, and of the others as many of the latest as make ``most`` with them."""
        dynamic = ~events.static
        n_static = events.row[events.static].bincount(minlength=n_stays)
        n_dynamic = events.row[dynamic].bincount(minlength=n_stays)
        to_come = (n_dynamic.cumsum(0).index_select(0, events.row)) - dynamic.cumsum(0)
        room = (most - n_static).clamp(min=0).index_select(0, events.row)
        return events.where(events.static | (to_come < room))


def _bucketed(n: int, bucket: int) -> int:
    """The next multiple of ``bucket``, at least one."""
    return max(1, -(-n // bucket)) * bucket
