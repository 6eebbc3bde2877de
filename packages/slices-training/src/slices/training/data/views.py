"""Batches cut from the events of a dataset: grids of equal bins, measured timestamps, or single observations.

Values are aggregated in raw units, then normalised. No loop over stays.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from functools import cached_property
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
    """The events of some samples: of which one (its row in the batch), when, which column, what.

    In the order of rows, and of time within one, statics first.
    """

    row: Tensor
    time: Tensor
    column: Tensor
    value: Tensor

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

    def width(self, most: int) -> int:
        """Time steps of a batch whose longest sample has ``most`` of them."""
        return self.n_steps or min(_bucketed(most, BUCKET), self.max_steps or sys.maxsize)

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
        before = torch.where(
            closed, end.nextafter(torch.tensor(torch.inf, dtype=end.dtype)), limit.minimum(end)
        )
        events = self._events(store, stays, first, before)
        if self.resolution == "observations":
            batch = self._observations(events, first, normalizer)
        elif self.resolution == "timestamps":
            batch = self._cells(events, self._timestamps(events, first), normalizer)
        else:
            batch = self._cells(events, self._grid(events, first, end.minimum(limit)), normalizer)
        batch["stay_id"] = torch.from_numpy(store.stay_id[stays])
        batch["patient_id"] = torch.from_numpy(store.patient_id[stays])
        return batch

    def _events(self, store: StayStore, stays: Index, start: Tensor, before: Tensor) -> Events:
        first = store.offsets[stays]
        count = store.offsets[stays + 1] - first
        row, position = spread(first, count)
        time, variable, value = store.events_at(position)
        events = Events(row, time, self._column_of.index_select(0, variable.long()), value)
        if self._leaves_out:
            events = events.where(events.column >= 0)
        if bool((before <= torch.from_numpy(store.length_hours[stays])).any()) or start.any():
            inside = events.time < before.index_select(0, events.row)
            inside &= events.time + EDGE >= start.index_select(0, events.row)
            events = events.where(inside | self._of_static(events))
        return events

    @cached_property
    def _column_of(self) -> Tensor:
        return torch.from_numpy(self.column)

    @cached_property
    def _leaves_out(self) -> bool:
        return bool((self.column < 0).any())

    def _of_static(self, events: Events) -> Tensor:
        return torch.from_numpy(self.static).index_select(0, events.column)

    def _grid(self, events: Events, start: Tensor, seen: Tensor) -> Steps:
        assert self.bin_width is not None and self.n_steps is not None
        n_real = ((seen - start - EDGE) / self.bin_width).ceil().long().clamp(1, self.n_steps)
        since = events.time + EDGE
        if start.any():  # statics, which are at 0, are then before the first step
            since = since.sub_(start.index_select(0, events.row)).clamp_(min=0)
        step = since.div_(self.bin_width).long()
        step = step.minimum((n_real - 1).index_select(0, events.row))
        padding_mask = torch.arange(self.n_steps) < n_real.unsqueeze(1)
        times = start.unsqueeze(1) + torch.arange(self.n_steps, dtype=torch.float32) * self.bin_width
        return Steps(step, times.float() * padding_mask, padding_mask)

    def _timestamps(self, events: Events, start: Tensor) -> Steps:
        row, time, n_stays = events.row, events.time, len(start)
        static = self._of_static(events)
        new = torch.ones_like(static)
        new[1:] = (row[1:] != row[:-1]) | (time[1:] != time[:-1]) | static[:-1]
        new &= ~static  # statics come first and are no time of their own
        so_far = new.cumsum(0)
        n_real = _per_row(new, row, n_stays)
        dropped = (n_real - (self.max_steps or len(row))).clamp(min=0)
        step = so_far - 1 - (n_real.cumsum(0) - n_real + dropped).index_select(0, row)
        step = torch.where(static, 0, step)
        n_real = (n_real - dropped).clamp(min=1)
        n_steps = self.width(int(n_real.max()))
        first = new & (step >= 0)
        times = torch.zeros(n_stays * n_steps, dtype=torch.float32)
        times[::n_steps] = start  # of what has no time of its own
        times.scatter_(0, (row * n_steps + step)[first], time[first])
        return Steps(step, times.view(n_stays, n_steps), torch.arange(n_steps) < n_real.unsqueeze(1))

    def _cells(self, events: Events, steps: Steps, normalizer: Normalizer | None) -> dict[str, Tensor]:
        shape = (*steps.padding_mask.shape, len(self.static))
        step = steps.step
        if self.bin_width is None and self.max_steps is not None:
            events, step = events.where(step >= 0), step[step >= 0]
        cell = events.row.mul(shape[1]).add_(step).mul_(shape[2]).add_(events.column)
        counts = torch.zeros(math.prod(shape), dtype=torch.float32).scatter_add_(
            0, cell, torch.ones_like(events.value)
        )
        value = self._aggregated(events, cell, counts)
        if normalizer is not None:
            value = normalizer.at(value, events.column)
        return {
            "timeseries": torch.zeros_like(counts).scatter_(0, cell, value).view(shape),
            "mask": counts.bool().view(shape),
            "counts": counts.view(shape),
            "times": steps.times,
            "padding_mask": steps.padding_mask,
        }

    def _aggregated(self, events: Events, cell: Tensor, counts: Tensor) -> Tensor:
        """What each event's cell holds, event by event: equal for those that share one."""
        value = events.value
        if self.aggregate == "mean":
            return self._total(value, cell, counts).div_(self._divisor(events, cell, counts))
        if self.aggregate == "last":
            last = torch.zeros_like(counts)
            last.numpy()[cell.numpy()] = value  # in order of time; numpy keeps the last of one index
            one = last.index_select(0, cell)
        else:
            reduced = torch.zeros_like(counts)
            reduced.scatter_reduce_(0, cell, value, f"a{self.aggregate}", include_self=False)
            one = reduced.index_select(0, cell)
        if not self.summed.any():
            return one
        summed = torch.from_numpy(self.summed).index_select(0, events.column)
        return torch.where(summed, self._total(value, cell, counts), one)

    def _divisor(self, events: Events, cell: Tensor, counts: Tensor) -> Tensor:
        """How many values each event's mean is of; of a sum 1."""
        several = counts.index_select(0, cell)
        if not self.summed.any():
            return several
        averaged = torch.from_numpy(~self.summed).float().index_select(0, events.column)
        return several.sub_(1).mul_(averaged).add_(1)

    @staticmethod
    def _total(value: Tensor, cell: Tensor, counts: Tensor) -> Tensor:
        return torch.zeros_like(counts).scatter_add_(0, cell, value).index_select(0, cell)

    def _observations(
        self, events: Events, start: Tensor, normalizer: Normalizer | None
    ) -> dict[str, Tensor]:
        """``value``, ``time``, ``variable`` (its column) and ``valid``, each (B, N), in the order of time."""
        n_stays = len(start)
        if self.max_steps is not None:
            events = self._most_recent(events, n_stays, self.max_steps)
        count = events.row.bincount(minlength=n_stays)
        width = _bucketed(int(count.max()), 4 * BUCKET)
        begin = torch.arange(n_stays) * width - (count.cumsum(0) - count)
        place = torch.arange(len(events.row)).add_(begin.index_select(0, events.row))
        value = events.value if normalizer is None else normalizer.at(events.value, events.column)

        def placed(what: Tensor) -> Tensor:
            empty = torch.zeros(n_stays * width, dtype=what.dtype)
            return empty.scatter_(0, place, what).view(n_stays, width)

        return {
            "value": placed(value),
            "time": placed(events.time.maximum(start.index_select(0, events.row))),  # statics lie at 0
            "variable": placed(events.column),
            "valid": torch.arange(width) < count.unsqueeze(1),
        }

    def _most_recent(self, events: Events, n_stays: int, most: int) -> Events:
        """All statics, and of the others as many of the latest as make ``most`` with them."""
        static = self._of_static(events)
        n_static, n_dynamic = (_per_row(which, events.row, n_stays) for which in (static, ~static))
        to_come = n_dynamic.cumsum(0).index_select(0, events.row) - (~static).cumsum(0)
        room = (most - n_static).clamp(min=0).index_select(0, events.row)
        return events.where(static | (to_come < room))


def spread(first: Index, count: Index) -> tuple[Tensor, Tensor]:
    """For rows of ``count`` elements each, the first of them at ``first``: row and place of every element."""
    row = torch.from_numpy(np.repeat(np.arange(len(first)), count))
    position = torch.from_numpy(np.repeat(first - np.cumsum(count) + count, count))
    return row, position.add_(torch.arange(len(position)))


def _per_row(which: Tensor, row: Tensor, n_rows: int) -> Tensor:
    """How many of each row it is true of."""
    return torch.zeros(n_rows, dtype=torch.long).scatter_add_(0, row, which.long())


def _bucketed(n: int, bucket: int) -> int:
    """The next multiple of ``bucket``, at least one."""
    return max(1, -(-n // bucket)) * bucket
