"""How fast batches are cut, beside indexing dense tensors and beside a per-stay Dataset.

``hatch run bench:loading datasets/small datasets/large [--threads 1] [--rounds 5]``

Stays per second for the hourly grid, measured timestamps and observations, cut from the file and, where the
training takes them from there, from memory; (a) two dense tensors of the same shape, indexed; (b) a
``Dataset`` that makes one stay at a time, with torch's default collate. All of all datasets are timed in
turn, round by round, in one process, and compared by the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from slices.encoders import Normalizer
from slices.training.data.columns import match_columns
from slices.training.data.resident import Resident
from slices.training.data.samples import unlabelled
from slices.training.data.statistics import fit_normalizer
from slices.training.data.store import StayStore
from slices.training.data.views import View

KINDS = {"grid": 1.0, "timestamps": "timestamps", "observations": "observations"}
DENSE_STAYS = 8000  # as many as fit into memory on any machine
MOST_BYTES = 8e9
Work = tuple[Callable[[], object], int]


class PerStay(Dataset[dict[str, torch.Tensor]]):
    """One stay at a time, by numpy over its events: what most projects have."""

    def __init__(self, store: StayStore, view: View, normalizer: Normalizer, stays: np.ndarray) -> None:
        self.store, self.view, self.normalizer, self.stays = store, view, normalizer, stays

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


def works_of(directory: str, kind: str, rng: np.random.Generator) -> dict[str, Callable[[int], Work]]:
    """What is timed on one dataset: for a batch size, the work and how often it is done in a row."""
    store = StayStore(directory)
    grid, view = view_of(store, 1.0), view_of(store, KINDS[kind])
    assert grid.n_steps is not None
    shape = (min(len(store), DENSE_STAYS), grid.n_steps, len(grid.static))
    dense = torch.randn(shape), torch.rand(shape) < 0.2
    normalizer = fit_normalizer(store, view, np.arange(min(len(store), DENSE_STAYS)))
    works: dict[str, Callable[[int], Work]] = {
        "dense": lambda batch: (partial(index, dense, drawn(rng, shape[0], batch)), 100),
        "per stay": lambda batch: (
            partial(one_batch, store, grid, normalizer, drawn(rng, len(store), batch)),
            1,
        ),
        kind: lambda batch: (partial(cut, view, store, drawn(rng, len(store), batch), normalizer), 30),
    }
    if kind == "observations":
        return works
    began = time.perf_counter()
    samples, stays = unlabelled(store, view, None), np.arange(len(store))
    kept = Resident.of(view, store, samples, stays, normalizer, most_bytes=MOST_BYTES)
    if kept is None:
        print(f"{directory}: {kind} needs more than {MOST_BYTES:.0e} bytes of memory")
        return works
    print(f"{directory}: {kind} kept in {kept.nbytes / 1e9:.2g} GB, {time.perf_counter() - began:.2g} s")
    return works | {f"{kind}, kept": lambda batch: (partial(gather, kept, drawn(rng, len(store), batch)), 30)}


def drawn(rng: np.random.Generator, n: int, batch: int) -> Iterator[np.ndarray]:
    return itertools.cycle([rng.choice(n, batch, replace=False) for _ in range(50)])


def index(dense: tuple[torch.Tensor, ...], chosen: Iterator[np.ndarray]) -> object:
    rows = torch.from_numpy(next(chosen))
    return [tensor[rows] for tensor in dense]


def one_batch(store: StayStore, view: View, normalizer: Normalizer, chosen: Iterator[np.ndarray]) -> object:
    stays = next(chosen)
    return next(iter(DataLoader(PerStay(store, view, normalizer, stays), batch_size=len(stays))))


def cut(view: View, store: StayStore, chosen: Iterator[np.ndarray], normalizer: Normalizer) -> object:
    return view.cut(store, next(chosen), normalizer=normalizer)


def gather(kept: Resident, chosen: Iterator[np.ndarray]) -> object:
    return kept.cut(next(chosen))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("datasets", nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    print(f"{options.threads} thread(s)")
    for kind in KINDS:
        makers = {name: works_of(name, kind, rng) for name in options.datasets}
        for batch in (64, 256):
            works = {(name, what): make(batch) for name, of in makers.items() for what, make in of.items()}
            report(works, batch, options.rounds)
        del makers, works


def report(works: dict[tuple[str, str], Work], batch: int, rounds: int) -> None:
    times: dict[tuple[str, str], list[float]] = {key: [] for key in works}
    for _ in range(rounds):
        for key, work in works.items():
            times[key].append(seconds(*work))
    first = next(iter(works))[0]
    for (name, what), taken in times.items():
        to_dense, to_loop, to_first = (
            statistics.median(a / b for a, b in zip(taken, times.get(other, taken), strict=True))
            for other in ((name, "dense"), (name, "per stay"), (first, what))
        )
        print(
            f"{name}  batch {batch:>3}  {what:<16} {batch / statistics.median(taken):>9,.0f} stays/s  "
            f"{to_dense:6.2f} x the time of dense, {1 / to_loop:6.1f} x the rate of one stay at a time, "
            f"{to_first:5.2f} x the time on the first dataset"
        )


if __name__ == "__main__":
    main()
