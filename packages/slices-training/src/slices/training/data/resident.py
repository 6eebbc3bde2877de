"""Samples cut once and kept in memory: a batch of them is gathered, several times as fast as cut anew."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from slices.encoders import Normalizer
from slices.training.data.samples import Samples
from slices.training.data.store import StayStore
from slices.training.data.views import Index, View, spread


class Ragged(NamedTuple):
    """Rows of several lengths, one behind the other: where each begins, and fields that share it."""

    first: Index
    fields: tuple[Tensor, ...]

    @classmethod
    def of(cls, counts: list[Tensor], *fields: list[Tensor]) -> Ragged:
        """From blocks of rows: the length of every row, and the elements of each field."""
        first = np.concatenate([[0], torch.cat(counts).cumsum(0).numpy()])
        return cls(first, tuple(_joined(blocks) for blocks in fields))

    def take(self, rows: Index) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Of these rows the lengths, which of them each element belongs to, and the elements."""
        first, count = self.first[rows], self.first[rows + 1] - self.first[rows]
        row, position = spread(first, count)
        taken = tuple(field.index_select(0, position) for field in self.fields)
        return torch.from_numpy(count), row, taken


def _joined(blocks: list[Tensor]) -> Tensor:
    joined = torch.cat(blocks)
    blocks.clear()  # so that only one field is there twice at a time
    return joined


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
        """Those samples, cut ``block`` at a time; None where they need more memory than they may."""
        cells: tuple[list[Tensor], ...] = ([], [], [], [])
        steps: tuple[list[Tensor], ...] = ([], [])
        taken = 0
        for start in range(0, len(rows), block):
            chosen = samples.take(rows[start : start + block])
            batch = view.cut(store, chosen.stay, chosen.until, chosen.start, normalizer)
            for kept, what in ((cells, _observed(batch)), (steps, _real(batch))):
                for blocks, tensor in zip(kept, what, strict=True):
                    blocks.append(tensor)
                    taken += tensor.nbytes
            if taken > most_bytes:
                return None
        place = np.full(len(samples.stay), -1)
        place[rows] = np.arange(len(rows))
        stays = samples.stay[rows]
        ids = store.stay_id[stays], store.patient_id[stays]
        return cls(view, place, Ragged.of(*cells), Ragged.of(*steps), *ids)

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return sum(field.nbytes for part in (self.cells, self.steps) for field in part.fields)

    def holds(self, rows: Index) -> bool:
        """Are all of these samples kept?"""
        return bool((self.place[rows] >= 0).all())

    def cut(self, rows: Index) -> dict[str, Tensor]:
        """The batch of these samples, equal to what the view would cut."""
        place = self.place[rows]
        n_real, _, (time,) = self.steps.take(place)
        _, of_cell, (cell, value, count) = self.cells.take(place)
        shape = (len(rows), self.view.width(int(n_real.max())), len(self.view.static))
        cell = of_cell.mul_(shape[1] * shape[2]).add_(cell)
        counts = torch.zeros(math.prod(shape)).scatter_(0, cell, count)
        padding_mask = torch.arange(shape[1]) < n_real.unsqueeze(1)
        return {
            "timeseries": torch.zeros_like(counts).scatter_(0, cell, value).view(shape),
            "mask": counts.bool().view(shape),
            "counts": counts.view(shape),
            "times": torch.zeros(shape[:2]).masked_scatter_(padding_mask, time),
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
