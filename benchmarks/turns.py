"""Programs that take turns, each in a process of its own: a noisy machine is noisy for all of them."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping

import torch


class Worker:
    """A process that runs a script with ``--work KIND`` and times it whenever it is told to."""

    def __init__(self, kind: str, name: str, options: argparse.Namespace) -> None:
        command = [sys.executable, sys.argv[0], name, "--work", kind]
        for option, value in vars(options).items():
            if option not in ("names", "work", "rounds") and value is not None:
                command += [f"--{option}", str(value)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.parameters = int(self._said())

    def round(self) -> float:
        """Stays a second."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(self._said())

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _said(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(map(str, self.process.args))} failed")  # type: ignore[arg-type]
        return line


def compare(name: str, others: Mapping[str, bool], options: argparse.Namespace) -> None:
    """Print parameters and rate of ours, and the median of its ratios to those of the others there are."""
    workers = {kind: Worker(kind, name, options) for kind in ["slices", *(k for k in others if others[k])]}
    rates: dict[str, list[float]] = {kind: [] for kind in workers}
    for _ in range(options.rounds):
        for kind, one in workers.items():
            rates[kind].append(one.round())
    for one in workers.values():
        one.end()

    def ratio(kind: str) -> str:
        if kind not in rates:
            return ""
        return f"{statistics.median(a / b for a, b in zip(rates['slices'], rates[kind], strict=True)):.2f}"

    count, rate = workers["slices"].parameters, statistics.median(rates["slices"])
    ratios = " ".join(f"{ratio(kind):>10}" for kind in others)
    print(f"{name:26} {count:11,} {rate:12.0f} {ratios}", flush=True)


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """What every such benchmark takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peer")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    return parser


def asked_of(
    parser: argparse.ArgumentParser, worker: Callable[[str, str, argparse.Namespace], None]
) -> argparse.Namespace:
    """The options of who compares; a worker's process works instead, and ends."""
    options = parser.parse_args()
    if options.work:
        worker(options.work, options.names[0], options)
        raise SystemExit
    return options


def heading(others: Iterable[str], what: str) -> None:
    """The line above those of ``compare``."""
    columns = " ".join(f"{'over ' + kind:>10}" for kind in others)
    print(f"{what:26} {'parameters':>11} {'stays/s':>12} {columns}")


def serve(n_parameters: int, step: Callable[[], None], n_stays: int, device: str) -> None:
    """What a worker's process does: a round of steps whenever it is asked for."""
    seconds, at_once = clock(device), 1 if device == "cpu" else 10
    print(n_parameters, flush=True)
    step()
    for _ in sys.stdin:
        began, times = seconds(), 0
        while seconds() - began < 1.5:
            for _ in range(at_once):
                step()
            times += at_once
        print(times * n_stays / (seconds() - began), flush=True)


def clock(device: str) -> Callable[[], float]:
    """Seconds of the processor; on a GPU, seconds once it has done what it was given."""
    if device == "cpu":
        return time.process_time

    def done() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return done
