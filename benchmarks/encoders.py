"""How fast encoders train, beside a bare loop of the same operations, and beside another checkout's encoders.

``hatch run bench:encoders [transformer gru_d ...] [--steps 48] [--rounds 5] [--threads 1] [--device cpu]
[--peer FOLDER]``

One step is forward, backward, clipping and AdamW on random stays, 30 % of whose cells are observed; stays per
processor second, on a GPU per second. Where an encoder has a bare loop (``bare_encoders.py``), or ``--peer``
(the ``src`` of a checkout of https://github.com/hannesill/SLICES) has it, they take turns, round by round,
each in a process of its own, at equal sizes and dropout, and are compared by the median of their ratios.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from bare_encoders import BARE, D, Size
from torch import Tensor, nn

OBSERVED = 0.3

SIZES = {
    "transformer": Size(),
    "gru_d": Size(n_layers=1),
    "observation_transformer": Size(128, batch=16),
    "smart": Size(32, batch=16),
}
PEER = {  # module, config, encoder, and what its config calls its own
    "transformer": ("transformer", "TransformerConfig", "TransformerEncoder", {"pooling": "mean"}),
    "gru_d": ("gru_d", "GRUDConfig", "GRUDEncoder", {}),
    "observation_transformer": (
        "observation",
        "ObservationTransformerConfig",
        "ObservationTransformerEncoder",
        {"pooling": "mean"},
    ),
    "smart": ("smart", "SMARTEncoderConfig", "SMARTEncoder", {"pooling": "query"}),
}
Stays = dict[str, Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peer")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        worker(options.work, options.names[0], options)
        return
    print(f"{'encoder':26} {'parameters':>11} {'stays/s':>12} {'over bare':>10} {'over peer':>10}")
    for name in options.names or every_encoder():
        compare(name, options)


def every_encoder() -> list[str]:
    from slices.encoders import list_encoders

    return list_encoders()


def compare(name: str, options: argparse.Namespace) -> None:
    kinds = [
        "slices",
        *(["bare"] if name in BARE else []),
        *(["peer"] if options.peer and name in PEER else []),
    ]
    workers = {kind: Worker(kind, name, options) for kind in kinds}
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
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
    print(f"{name:26} {count:11,} {rate:12.0f} {ratio('bare'):>10} {ratio('peer'):>10}", flush=True)


class Worker:
    """A process that times one encoder whenever it is told to."""

    def __init__(self, kind: str, name: str, options: argparse.Namespace) -> None:
        peer = ["--peer", options.peer] if kind == "peer" else []
        command = [sys.executable, __file__, name, "--work", kind, *peer]
        for option in ("steps", "threads", "device"):
            command += [f"--{option}", str(getattr(options, option))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.parameters = int(self._said())

    def round(self) -> float:
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


def worker(kind: str, name: str, options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    size = SIZES.get(name, Size())
    encoder = MAKERS[kind](name, size).to(options.device)
    stays = {key: part.to(options.device) for key, part in make_stays(size.batch, options.steps).items()}
    seconds, at_once = clock(options.device), 1 if options.device == "cpu" else 10
    optimizer = torch.optim.AdamW(encoder.parameters())
    encoder.train()
    print(sum(parameter.numel() for parameter in encoder.parameters()), flush=True)
    step(encoder, stays, optimizer)
    for _ in sys.stdin:
        began, times = seconds(), 0
        while seconds() - began < 1.5:
            for _ in range(at_once):
                step(encoder, stays, optimizer)
            times += at_once
        print(times * size.batch / (seconds() - began), flush=True)


def clock(device: str) -> Callable[[], float]:
    """Seconds of the processor; on a GPU, seconds once it has done what it was given."""
    if device == "cpu":
        return time.process_time

    def done() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return done


def make_stays(batch: int, n_steps: int) -> Stays:
    mask = torch.rand(batch, n_steps, D) < OBSERVED
    return {"x": torch.randn(mask.shape) * mask, "mask": mask}


def step(encoder: nn.Module, stays: Stays, optimizer: torch.optim.Optimizer) -> None:
    out = encoder(**stays)
    (out.mean(1) if out.ndim == 3 else out).square().mean().backward()
    nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def ours(name: str, size: Size) -> nn.Module:
    from slices.encoders import build_encoder

    if name not in SIZES:
        return build_encoder(name, {"d_input": D})
    config = {"d_input": D, "d_model": size.d_model, "n_layers": size.n_layers}
    return build_encoder(name, config | ({} if name == "gru_d" else {"n_heads": size.n_heads}))


def theirs(name: str, size: Size) -> nn.Module:
    folder = sys.argv[sys.argv.index("--peer") + 1]
    sys.path.insert(0, folder)
    for module in [module for module in sys.modules if module.split(".")[0] == "slices"]:
        del sys.modules[module]
    module_name, config_name, encoder_name, own = PEER[name]
    module: Any = importlib.import_module(f"slices.models.encoders.{module_name}")
    config: dict[str, Any] = {
        "d_input": D,
        "d_model": size.d_model,
        "n_layers": size.n_layers,
        "dropout": 0.1,
    }
    if name != "gru_d":
        config |= {"n_heads": size.n_heads, "d_ff": 4 * size.d_model}
    encoder: nn.Module = getattr(module, encoder_name)(getattr(module, config_name)(**config | own))
    return encoder


MAKERS: dict[str, Callable[[str, Size], nn.Module]] = {
    "slices": ours,
    "bare": lambda name, size: BARE[name](size),
    "peer": theirs,
}

if __name__ == "__main__":
    main()
