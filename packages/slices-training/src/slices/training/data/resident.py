"""Samples cut once and kept in memory: a batch of them is gathered, several times as fast as cut anew."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slices.encoders import Normalizer
from slices.training.data.samples import Samples
from slices.training.data.store import StayStore
from slices.training.data.views import Index, View, spread

TRIED = 1024  # samples, drawn by lot, from which the memory is estimated
MARGIN = 1.1  # room beyond the estimate
SPARE = 100_000  # elements, for few samples
CELL, STEP = 12, 4  # bytes: place, value and count; time


class Ragged:
    """Rows of several lengths, one behind the other: where each begins, and fields that share it.

    Room is reserved for ``most`` elements; only what is written takes memory, and nothing is moved.
    """

    def __init__(self, n_rows: int, most: int, dtypes: Sequence[torch.dtype]) -> None:
        self.first = np.zeros(n_rows + 1, dtype=np.int64)
        self.fields = [torch.empty(most, dtype=dtype) for dtype in dtypes]
        self.n_rows = 0

    def add(self, count: Tensor, *fields: Tensor) -> None:
        """More rows, as many as ``count`` has numbers. Raises ``MemoryError`` where there is no room."""
        start = int(self.first[self.n_rows])
        rows = slice(self.n_rows + 1, self.n_rows + 1 + len(count))
        self.first[rows] = start + count.cumsum(0).numpy()
        if (stop := int(self.first[rows.stop - 1])) > len(self.fields[0]):
            raise MemoryError(f"{stop} elements, reserved are {len(self.fields[0])}")
        for kept, new in zip(self.fields, fields, strict=True):
            kept[start:stop] = new
        self.n_rows += len(count)

    def take(self, rows: Index) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Of these rows the lengths, which of them each element belongs to, and the elements."""
        first, count = self.first[rows], self.first[rows + 1] - self.first[rows]
        row, position = (index.to(self.device, non_blocking=True) for index in spread(first, count))
        taken = tuple(field.index_select(0, position) for field in self.fields)
        return torch.from_numpy(count), row, taken

    @property
    def device(self) -> torch.device:
        """Where the elements are."""
        return self.fields[0].device

    def to(self, device: torch.device) -> Ragged:
        """The same there, without room for more."""
        moved = Ragged(0, 0, ())
        moved.first, moved.n_rows = self.first, self.n_rows
        moved.fields = [field[: int(self.first[self.n_rows])].to(device) for field in self.fields]
        return moved

    @property
    def nbytes(self) -> int:
        """Memory that is written to."""
        return self.first.nbytes + int(self.first[self.n_rows]) * sum(f.element_size() for f in self.fields)


@dataclass(frozen=True)
class Resident:
    """What a view cuts of some samples, as the cells that are observed and the steps that are real.

    ``place (N,)`` says where each sample is kept, or -1; ``stay_id`` and ``patient_id`` are of those kept.
    """

    view: View
    place: Index
    cells: Ragged
    steps: Ragged
    stay_id: Index
    patient_id: Index

    @classmethod
    def of(
        cls,
        view: View,
        store: StayStore,
        samples: Samples,
        rows: Index,
        normalizer: Normalizer,
        *,
        most_bytes: float,
        block: int = 64,
    ) -> Resident | None:
        """Those samples, cut ``block`` at a time; None where they need more memory than they may.

        Whether they do is told from a few of them, before the work.
        """

        def batches(chosen: Index) -> Iterator[dict[str, Tensor]]:
            for start in range(0, len(chosen), block):
                of = samples.take(chosen[start : start + block])
                yield view.cut(store, of.stay, of.until, of.start, normalizer)

        tried = np.random.default_rng(0).permutation(rows)[:TRIED]
        sizes = [[np.count_nonzero(batch[of]) for of in ("mask", "padding_mask")] for batch in batches(tried)]
        n_cells, n_steps = (sum(size) / len(tried) * len(rows) for size in zip(*sizes, strict=True))
        if n_cells * CELL + n_steps * STEP > most_bytes:
            return None
        cells = Ragged(len(rows), int(MARGIN * n_cells) + SPARE, (torch.int32, torch.float32, torch.float32))
        steps = Ragged(len(rows), int(MARGIN * n_steps) + SPARE, (torch.float32,))
        try:
            for batch in batches(rows):
                cells.add(*_observed(batch))
                steps.add(*_real(batch))
        except MemoryError:
            return None
        place = np.full(len(samples.stay), -1)
        place[rows] = np.arange(len(rows))
        stays = samples.stay[rows]
        return cls(view, place, cells, steps, store.stay_id[stays], store.patient_id[stays])

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.cells.nbytes + self.steps.nbytes

    def to(self, device: torch.device) -> Resident:
        """The same on a GPU: a batch is then gathered there, and only where it lies is sent."""
        return dataclasses.replace(self, cells=self.cells.to(device), steps=self.steps.to(device))

    def holds(self, rows: Index) -> bool:
        """Are all of these samples kept?"""
        return bool((self.place[rows] >= 0).all())

    def cut(self, rows: Index) -> dict[str, Tensor]:
        """The batch of these samples, equal to what the view would cut; ids are in main memory."""
        place = self.place[rows]
        n_real, _, (time,) = self.steps.take(place)
        _, of_cell, (cell, value, count) = self.cells.take(place)
        shape = (len(rows), self.view.width(int(n_real.max())), len(self.view.static))
        cell = of_cell.mul_(shape[1] * shape[2]).add_(cell)
        device = self.cells.device
        counts = torch.zeros(math.prod(shape), dtype=torch.float32, device=device).scatter_(0, cell, count)
        n_real = n_real.to(device, non_blocking=True)
        padding_mask = torch.arange(shape[1], device=device) < n_real.unsqueeze(1)
        return {
            "timeseries": torch.zeros_like(counts).scatter_(0, cell, value).view(shape),
            "mask": counts.bool().view(shape),
            "counts": counts.view(shape),
            "times": counts.new_zeros(shape[:2]).masked_scatter_(padding_mask, time),
            "padding_mask": padding_mask,
            "stay_id": torch.from_numpy(self.stay_id[place]),
            "patient_id": torch.from_numpy(self.patient_id[place]),
        }


def _observed(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """How many cells of each sample are observed; of each of them its place, its value and its count."""
    mask = batch["mask"].flatten(1)
    index = torch.from_numpy(np.flatnonzero(mask.numpy()))
    value, count = (batch[key].flatten().index_select(0, index) for key in ("timeseries", "counts"))
    return mask.sum(1), index.remainder_(mask.shape[1]).int(), value, count


def _real(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Of each sample how many steps are real, and their times."""
    real = batch["padding_mask"]
    return real.sum(1), batch["times"][real]
