"""What many stays, and long ones, cost: whether throughput stays flat and memory bounded.

``hatch run bench:scale [--stays 10000 100000 1000000] [--events 400] [--variables 200] [--encoder gru]``

For each number of stays: preparing it (stays/s, peak memory), opening it for training (s), and cutting its
first batches while nothing of the file is in memory ("cold", stays/s), in elapsed time; cutting the same
batches once more and training through the Trainer (stays per processor second); the peak memory of that
process, and what was its own in the end, without the mapped file, which the system takes back when it needs
to.

``hatch run bench:scale --lengths 100 400 1600 [--encoders transformer gru]``

Instead, for each mean number of measured times, with a spread as between stays of one and of ten days:
stays/s of training on batches that are padded to their longest stay, and on those of stays of about one
length (``data.bucket_by_length``), with the share of steps that is no padding. Both take turns; medians over
rounds of a whole epoch.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import mmap
import multiprocessing
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from training import Clock, opened, quietly, trainer_of
from turns import clock

from slices.training import SSLPretrainModule, StayDataModule
from slices.training.compose import compose_app
from slices.training.data import prepare_dataset
from slices.training.data.schema import EVENT_SCHEMA, LABEL_SCHEMA, Chunk, Tally, Variable
from slices.training.data.sources import Part, Source, build_source, register_source
from slices.training.memory import peak_memory

CHUNK, PART = 500, 20_000  # stays


@dataclass(kw_only=True)
class MadeUpConfig:
    n_stays: int = 1000
    events: int = 400
    n_variables: int = 200
    hours: float = 48.0
    spread: float = 0.0


@register_source("made_up", MadeUpConfig)
class MadeUp(Source):
    """Noise at random times; the lengths of stays are lognormal, and their events as many as that takes."""

    config: MadeUpConfig
    tasks = ()

    @property
    def variables(self) -> tuple[Variable, ...]:
        return tuple(Variable(name=f"v{i}", unit="") for i in range(self.config.n_variables))

    def parts(self) -> Sequence[Part]:
        return [Part(str(start)) for start in range(0, self.config.n_stays, PART)]

    def read(self, part: Part, tally: Tally) -> Iterator[Chunk]:
        last = min(int(part.name) + PART, self.config.n_stays)
        for start in range(int(part.name), last, CHUNK):
            yield self._chunk(np.arange(start, min(start + CHUNK, last)))

    def _chunk(self, stays: np.ndarray) -> Chunk:
        made, rng = self.config, np.random.default_rng(int(stays[0]))
        size = rng.lognormal(-(made.spread**2) / 2, made.spread, len(stays))
        count = np.maximum(1, (made.events * size).round()).astype(int)
        hours = made.hours * size
        events = {
            "stay_id": np.repeat(stays, count),
            "time": (rng.random(count.sum()) * np.repeat(hours, count)).astype(np.float32),
            "variable": rng.integers(0, made.n_variables, count.sum()),
            "value": rng.standard_normal(count.sum()),
        }
        about = {"stay_id": stays, "patient_id": stays, "length_hours": hours}
        table = pl.DataFrame(about).with_columns(set=pl.lit("made_up"))
        return Chunk(table, pl.DataFrame(events).cast(EVENT_SCHEMA), pl.DataFrame(schema=LABEL_SCHEMA))


def main() -> None:
    asked = parsed()
    quietly(asked.threads)
    print(f"{asked.threads} threads, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        if asked.lengths:
            by_length(asked, Path(folder))
        else:
            by_number(asked, Path(folder))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--stays", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--events", type=int, default=400)
    parser.add_argument("--variables", type=int, default=200)
    parser.add_argument("--hours", type=float, default=48.0)
    parser.add_argument("--lengths", type=int, nargs="+")
    parser.add_argument("--encoders", nargs="+", default=["transformer", "gru"])
    parser.add_argument("--encoder", default="gru")
    parser.add_argument("--ssl", default="mae")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    return parser.parse_args()


def by_number(asked: argparse.Namespace, folder: Path) -> None:
    print(
        f"{'stays':>9} {'GB':>5} {'prepared/s':>10} {'peak GB':>7} {'open s':>6} {'cold/s':>7} {'cut/s':>7} "
        f"{'trained/s':>9} {'peak GB':>7} {'own':>6}"
    )
    for n_stays in asked.stays:
        made = {
            "n_stays": n_stays,
            "events": asked.events,
            "n_variables": asked.variables,
            "hours": asked.hours,
        }
        dataset = folder / str(n_stays)
        of_preparing = in_a_process(prepared, made, dataset, asked)
        of_training = in_a_process(opened_and_trained, made, dataset, asked)
        size = sum(path.stat().st_size for path in dataset.iterdir()) / 1e9
        rate, peak = of_preparing
        opening, cold, cut, trained, most, own = of_training
        print(
            f"{n_stays:9,} {size:5.2f} {rate:10,.0f} {peak:7.2f} {opening:6.1f} {cold:7,.0f} {cut:7,.0f} "
            f"{trained:9,.0f} {most:7.2f} {own:6.2f}",
            flush=True,
        )


def in_a_process(work: Callable[..., Any], *given: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *given).result()


def prepared(made: dict[str, Any], dataset: Path, asked: argparse.Namespace) -> tuple[float, float]:
    """Stays/s, and GB at most."""
    began = time.perf_counter()
    prepare_dataset(build_source({"name": "made_up", **made}), dataset, jobs=asked.jobs)
    return made["n_stays"] / (time.perf_counter() - began), peak_memory() / 1e9


def opened_and_trained(made: dict[str, Any], dataset: Path, asked: argparse.Namespace) -> tuple[float, ...]:
    """Seconds, stays/s cut cold, cut and trained, GB at most, and those of its own."""
    quietly(asked.threads)
    more = ["data.resident_gb=0.0", f"data.horizon={asked.hours}"]
    began = time.perf_counter()
    config, data = config_and_data(made, dataset, asked, asked.encoder, more)
    opening = time.perf_counter() - began
    forget(data)
    cold, cut = (cut_rate(data, asked.steps, seconds) for seconds in (time.perf_counter, time.process_time))
    trained = trained_rate(config, data, dataset.parent, asked)
    own = re.search(r"RssAnon:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return opening, cold, cut, trained, peak_memory() / 1e9, int(own[1]) * 1024 / 1e9 if own else float("nan")


def forget(data: StayDataModule) -> None:
    """Drops what the system holds of the events, here and in its cache, as if nobody had read them."""
    system = ctypes.CDLL(None)
    for events in (data.store.time, data.store.variable, data.store.value):
        start = events.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
        system.madvise(ctypes.c_void_p(start), ctypes.c_size_t(events.nbytes), mmap.MADV_DONTNEED)
    for path in data.store.directory.glob("*.npy"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cut_rate(data: StayDataModule, steps: int, seconds: Callable[[], float]) -> float:
    """Stays/s of so many first batches."""
    began, n_cut = seconds(), 0
    for batch in itertools.islice(data.train_dataloader(), steps):
        n_cut += len(batch["mask"])
    return n_cut / (seconds() - began)


def config_and_data(
    made: dict[str, Any], dataset: Path, asked: argparse.Namespace, encoder: str, more: list[str]
) -> tuple[Any, StayDataModule]:
    """The app's config on that dataset, and its data, opened."""
    config = compose_app(
        "pretrain",
        [
            f"encoder={encoder}",
            f"ssl={asked.ssl}",
            f"training.batch_size={asked.batch}",
            *more,
        ],
    )
    config.data.source = {"name": "made_up", **made}
    config.data.dataset_dir = str(dataset)
    config.data.splits.test_fraction = 0.01
    config.data.splits.val_fraction = 0.01
    return config, opened(config)


def trained_rate(config: Any, data: StayDataModule, folder: Path, asked: argparse.Namespace) -> float:
    """Stays/s through the Trainer."""
    seconds = Clock(clock("cpu"))
    trainer = trainer_of(asked.steps, folder, accelerator="cpu", callbacks=[seconds])
    trainer.fit(SSLPretrainModule(config), datamodule=data)
    return float(asked.batch / seconds.a_step)


def epoch_rate(config: Any, data: StayDataModule, folder: Path) -> float:
    """Stays per processor second over one epoch."""
    trainer = trainer_of(None, folder, accelerator="cpu", max_epochs=1)
    module, began = SSLPretrainModule(config), time.process_time()
    trainer.fit(module, datamodule=data)
    return len(data.splits["train"]) / (time.process_time() - began)


def by_length(asked: argparse.Namespace, folder: Path) -> None:
    print(f"{'encoder':26} {'times':>6} {'padded':>8} {'real':>5} {'by length':>9} {'real':>5} {'ratio':>6}")
    for encoder, length in itertools.product(asked.encoders, asked.lengths):
        made = {
            "n_stays": 40 * asked.batch,
            "events": length,
            "n_variables": asked.variables,
            "hours": 72.0,
            "spread": 0.8,
        }
        more = ["data.resolution=timestamps", "data.horizon=10000.0"]
        kinds = [
            config_and_data(made, folder / str(length), asked, encoder, [*more, f"data.bucket_by_length={b}"])
            for b in (False, True)
        ]
        rates = [[epoch_rate(config, data, folder) for config, data in kinds] for _ in range(asked.rounds)]
        padded, bucketed = (statistics.median(rate[kind] for rate in rates) for kind in (0, 1))
        ratio = statistics.median(after / before for before, after in rates)
        real = [share_of_real(data) for _, data in kinds]
        print(
            f"{encoder:26} {length:6,} {padded:8,.0f} {real[0]:5.0%} {bucketed:9,.0f} {real[1]:5.0%} "
            f"{ratio:6.2f}",
            flush=True,
        )


def share_of_real(data: StayDataModule) -> float:
    masks = [batch["padding_mask"] for batch in data.train_dataloader()]
    return float(sum(mask.sum() for mask in masks) / sum(mask.numel() for mask in masks))


if __name__ == "__main__":
    main()
