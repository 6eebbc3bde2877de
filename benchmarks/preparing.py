"""How fast PhysioNet 2012 is prepared, beside reading the same files in a plain pandas loop.

``hatch run bench:preparing --raw data/physionet2012 [--jobs 2]``

The two in turn, each in a process of its own: stays per second, and peak memory. ``--stays 1000000`` prepares
that many synthetic stays instead and says rate, peak memory and size on disk.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import resource
import tarfile
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any


def by_pandas(raw: str, directory: str, jobs: int) -> int:
    """Each file by ``read_csv``, hour by hour the mean of each variable: no cleaning, no labels."""
    import pandas as pd

    frames = []
    for archive in sorted(Path(raw).glob("set-*.tar.gz")):
        with tarfile.open(archive) as tar:
            for member in tar:
                file = tar.extractfile(member)
                if file is None or not member.name.endswith(".txt"):
                    continue
                rows = pd.read_csv(io.BytesIO(file.read()))
                rows["hour"] = rows["Time"].str[:2].astype(int)
                wide = rows.pivot_table(index="hour", columns="Parameter", values="Value", aggfunc="mean")
                frames.append(wide)
    pd.concat(frames).to_pickle(Path(directory) / "stays.pickle")
    return len(frames)


def by_slices(raw: str, directory: str, jobs: int) -> int:
    from slices.training.data import build_source, prepare_dataset

    source = build_source({"name": "physionet2012", "raw": raw})
    return len(prepare_dataset(source, Path(directory) / "dataset", jobs=jobs))


def synthetic(stays: str, directory: str, jobs: int) -> int:
    from slices.training.data import build_source, prepare_dataset

    source = build_source({"name": "synthetic", "n_stays": int(stays)})
    store = prepare_dataset(source, Path(directory) / "dataset", jobs=jobs)
    size = sum(path.stat().st_size for path in (Path(directory) / "dataset").iterdir())
    print(f"{len(store.time):,} events, {size / 1e9:.2f} GB, {size / len(store.time):.1f} bytes an event")
    return len(store)


def measured(work: Any, what: str, jobs: int) -> tuple[int, float, list[float]]:
    with tempfile.TemporaryDirectory() as directory:
        began = time.perf_counter()
        stays = work(what, directory, jobs)
        wall = time.perf_counter() - began
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return stays, wall, [peak * 1024 / 1e9 for peak in peaks]


def in_a_process(work: Any, what: str, jobs: int) -> float:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        stays, wall, (own, children) = pool.submit(measured, work, what, jobs).result()
    print(
        f"{work.__name__:<10} {stays:>9,} stays in {wall:7.1f} s: {stays / wall:>9,.0f} stays/s, "
        f"peak memory {own:.2f} GB"
        + (f", of each of {jobs} more processes {children:.2f} GB" if children else "")
    )
    return float(stays / wall)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--raw", default="data/physionet2012")
    parser.add_argument("--stays", type=int)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    if options.stays:
        in_a_process(synthetic, str(options.stays), options.jobs)
        return
    for _ in range(options.rounds):
        ours, loop = (in_a_process(work, options.raw, options.jobs) for work in (by_slices, by_pandas))
        print(f"ratio of the rates: {ours / loop:.1f}")


if __name__ == "__main__":
    main()
