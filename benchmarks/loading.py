"""How fast batches are cut, beside indexing dense tensors and beside a per-stay Dataset.

``hatch run bench:loading --dataset datasets/synthetic-2000-0 [--threads 1] [--rounds 5]``

Stays per second for the hourly grid, measured timestamps and observations; (a) two dense tensors of the
same shape, indexed; (b) a ``Dataset`` that makes one stay at a time, with torch's default collate. All are
timed in turn, round by round, in one process, and compared by the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from slices.training.data.columns import match_columns
from slices.training.data.statistics import fit_normalizer
from slices.training.data.store import StayStore
from slices.training.data.views import View

KINDS = {"grid": 1.0, "timestamps": "timestamps", "observations": "observations"}
DENSE_STAYS = 8000  # as many as fit into memory on any machine


class PerStay(Dataset[dict[str, torch.Tensor]]):
    """One stay at a time, by numpy over its events: what most projects have."""

    def __init__(self, store: StayStore, view: View, stays: np.ndarray) -> None:
        self.store, self.view, self.stays = store, view, stays
        self.normalizer = fit_normalizer(store, view, stays)

    def __len__(self) -> int:
        return len(self.stays)

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        stay = self.stays[item]
        assert self.view.n_steps is not None
        shape = (self.view.n_steps, len(self.view.static))
        events = slice(self.store.offsets[stay], self.store.offsets[stay + 1])
        step = np.minimum(self.store.time[events].astype(int), shape[0] - 1)
        cell = step * shape[1] + self.store.variable[events]
        size = shape[0] * shape[1]
        total = torch.from_numpy(np.bincount(cell, self.store.value[events], size)).float().view(shape)
        counts = torch.from_numpy(np.bincount(cell, minlength=size)).float().view(shape)
        mask = counts > 0
        x = self.normalizer(total / counts.clamp(min=1), mask)
        return {"timeseries": x, "mask": mask, "counts": counts, "times": torch.arange(float(shape[0]))}


def view_of(store: StayStore, resolution: float | str) -> View:
    columns = match_columns(store.variables)
    return View(
        column=columns.of_variable,
        static=columns.is_static,
        summed=columns.is_summed,
        resolution=resolution,  # type: ignore[arg-type]
        horizon=48.0,
    )


def seconds(work: Callable[[], object], repeats: int) -> float:
    work()
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - began) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    store = StayStore(options.dataset)
    rng = np.random.default_rng(0)
    grid = view_of(store, 1.0)
    assert grid.n_steps is not None
    shape = (min(len(store), DENSE_STAYS), grid.n_steps, len(grid.static))
    dense, observed = torch.randn(shape), torch.rand(shape) < 0.2
    normalizer = fit_normalizer(store, grid, np.arange(min(len(store), DENSE_STAYS)))
    print(f"{len(store):,} stays, {len(store.time):,} events, {options.threads} thread(s)")
    for batch in (64, 256):
        chosen = [rng.choice(len(store), batch, replace=False) for _ in range(50)]
        rows = [torch.from_numpy(rng.choice(shape[0], batch, replace=False)) for _ in range(50)]
        per_stay = DataLoader(PerStay(store, grid, chosen[0]), batch_size=batch)
        turn = iter(range(10**9))
        works: dict[str, tuple[Callable[[], object], int]] = {
            "dense": (lambda: [t[rows[next(turn) % 50]] for t in (dense, observed)], 100),  # noqa: B023
            "per stay": (lambda: next(iter(per_stay)), 1),  # noqa: B023
        }
        for kind, resolution in KINDS.items():
            view = view_of(store, resolution)
            works[kind] = (
                lambda view=view: view.cut(store, chosen[next(turn) % 50], normalizer=normalizer),  # type: ignore[misc]  # noqa: B023
                30,
            )
        times: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(options.rounds):
            for name, (work, repeats) in works.items():
                times[name].append(seconds(work, repeats))
        for name, taken in times.items():
            rate = batch / statistics.median(taken)
            to_dense, to_loop = (
                statistics.median(a / b for a, b in zip(taken, times[other], strict=True))
                for other in ("dense", "per stay")
            )
            print(
                f"batch {batch:>3}  {name:<12} {rate:>10,.0f} stays/s   {to_dense:6.2f} x the time of dense, "
                f"{1 / to_loop:8.1f} x the rate of one stay at a time"
            )


if __name__ == "__main__":
    main()
