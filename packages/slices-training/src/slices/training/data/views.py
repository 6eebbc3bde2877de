"""Batches cut from the events of a dataset: grids of equal bins, or the measured timestamps.

Values are aggregated in raw units; normalising comes after. No loop over stays.
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

from slices.training.data.store import StayStore

EDGE = 1e-5  # hours: a time this close below a bin's edge is on it (float32 cannot say 0.7 h exactly)
BUCKET = 16  # timestamps are padded to a multiple of this, so that few shapes occur

Array = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]


class Events(NamedTuple):
    """The events of some stays: which stay (position in the batch), when, which column, what."""

    row: Index
    time: Array
    column: Index
    value: Array


class Steps(NamedTuple):
    """Where each event goes, and the time steps there are: step of each event, time and mask (B, T)."""

    step: Index
    times: Array
    padding_mask: npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class View:
    """How stays become tensors.

    ``column`` gives each variable of the dataset its column, or -1 to leave it out; ``static`` says of
    each column (D,) whether it is observed at the first real step only, ``summed`` whether it is an
    amount: its cells hold the sum of their values, those of other columns what ``aggregate`` says.
    ``resolution`` is the width of a bin in hours, or None for measured timestamps (a cell is then one
    timestamp). Of more than ``max_steps`` timestamps the most recent are kept.
    """

    column: Index
    static: npt.NDArray[np.bool_]
    summed: npt.NDArray[np.bool_]
    resolution: float | None
    horizon: float
    max_steps: int | None = None
    aggregate: Literal["mean", "last"] = "mean"

    @property
    def n_steps(self) -> int | None:
        """Time steps of the grid; None for timestamps, where each batch has its own."""
        return None if self.resolution is None else max(1, math.ceil((self.horizon - EDGE) / self.resolution))

    def cut(self, store: StayStore, stays: Index, until: Array | None = None) -> dict[str, Tensor]:
        """The stays at these positions, in raw units: the batch without labels.

        ``until (B,)``: hours from which on nothing is seen. A stay is seen up to and including its own
        end or the horizon (an event exactly there belongs to the last step), unless ``until`` comes
        first: events from then on may be what is predicted. Statics are always seen.
        """
        length = store.length_hours[stays]
        end = np.minimum(length, np.float32(self.horizon))
        until = np.full_like(length, np.inf) if until is None else until
        closed = (until > end) | (until >= length)
        before = np.where(closed, np.nextafter(end, np.float32(np.inf)), until)
        seen = np.minimum(end, until)
        events = self._events(store, stays, before)
        steps = self._timestamps(events, len(stays)) if self.resolution is None else self._grid(events, seen)
        batch = self._aggregate(events, steps)
        batch["times"] = torch.from_numpy(steps.times)
        batch["padding_mask"] = torch.from_numpy(steps.padding_mask)
        batch["stay_id"] = torch.from_numpy(store.stay_id[stays])
        batch["patient_id"] = torch.from_numpy(store.patient_id[stays])
        return batch

    def _events(self, store: StayStore, stays: Index, before: Array) -> Events:
        start = store.offsets[stays]
        count = store.offsets[stays + 1] - start
        row = np.repeat(np.arange(len(stays)), count)
        position = np.arange(len(row)) + np.repeat(start - np.cumsum(count) + count, count)
        time, column = store.time[position], self.column[store.variable[position]]
        keep = (column >= 0) & ((time < before[row]) | self.static[column])
        if not keep.all():
            row, time, column, position = row[keep], time[keep], column[keep], position[keep]
        return Events(row, time, column, store.value[position])

    def _grid(self, events: Events, seen: Array) -> Steps:
        assert self.resolution is not None and self.n_steps is not None
        n_real = np.maximum(1, np.ceil((seen - EDGE) / self.resolution)).astype(np.int64)
        step = ((events.time + EDGE) / self.resolution).astype(np.int64)
        step = np.minimum(step, n_real[events.row] - 1)
        step[self.static[events.column]] = 0
        padding_mask = np.arange(self.n_steps) < n_real[:, None]
        times = (np.arange(self.n_steps) * self.resolution).astype(np.float32)
        return Steps(step, times * padding_mask, padding_mask)

    def _timestamps(self, events: Events, n_stays: int) -> Steps:
        static = self.static[events.column]
        row, time = events.row[~static], events.time[~static]
        new = np.ones(len(row), dtype=bool)
        new[1:] = (row[1:] != row[:-1]) | (time[1:] != time[:-1])
        n_real = np.bincount(row[new], minlength=n_stays)
        first = np.cumsum(n_real) - n_real
        dropped = np.maximum(n_real - (self.max_steps or len(row)), 0)
        step = np.zeros(len(events.row), dtype=np.int64)
        step[~static] = np.cumsum(new) - 1 - (first + dropped)[row]
        n_real = np.maximum(n_real - dropped, 1)
        n_steps = min(-(-int(n_real.max()) // BUCKET) * BUCKET, self.max_steps or sys.maxsize)
        padding_mask = np.arange(n_steps) < n_real[:, None]
        times = np.zeros((n_stays, n_steps), dtype=np.float32)
        kept = step[~static] >= 0
        times[row[kept], step[~static][kept]] = time[kept]
        return Steps(step, times, padding_mask)

    def _aggregate(self, events: Events, steps: Steps) -> dict[str, Tensor]:
        shape = (*steps.padding_mask.shape, len(self.static))
        cell = (events.row * shape[1] + steps.step) * shape[2] + events.column
        value = events.value
        if (steps.step < 0).any():
            cell, value = cell[steps.step >= 0], value[steps.step >= 0]
        index = torch.from_numpy(cell)
        counts = torch.zeros(math.prod(shape)).scatter_add_(0, index, torch.ones(len(cell)))
        total = torch.zeros(math.prod(shape)).scatter_add_(0, index, torch.from_numpy(value))
        if self.aggregate == "mean":
            x = total / counts.clamp(min=1)
        else:
            x = torch.zeros_like(total)
            x.numpy()[cell] = value  # events ascend in time, and of repeated indices numpy keeps the last
        return {
            "timeseries": torch.where(torch.from_numpy(self.summed), total.view(shape), x.view(shape)),
            "mask": (counts > 0).view(shape),
            "counts": counts.view(shape),
        }
