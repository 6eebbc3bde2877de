"""How near to the machine's limit pretraining comes, and where its time goes.

``hatch run bench:train [transformer gru_large ...] [--ssl mae] [--batch 64] [--hours 48] [--rounds 5]
[--threads 1] [--device cpu] [--precision 32-true] [--json FILE] [--trace FOLDER]``

For each encoder of ``configs/encoder``, on synthetic stays: operations and bytes of one step, counted; the
floor, which is the time that the machine needs for them (see ``roofline.py``); how much more a step of a bare
loop takes; and how much more than that one of the Trainer's, with its data, logging and callbacks. Both take
turns; figures are medians over rounds, of processor seconds (on a GPU of elapsed ones). Then the parts of a
step of the Trainer's. ``--trace`` writes a profile for chrome://tracing. ``hatch run bench:slower OLD.json
NEW.json`` names what became slower.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.profilers import Profiler
from roofline import Machine, Roofline
from turns import clock

from slices.ssl.encoding import accepted_inputs
from slices.training import SSLPretrainModule, StayDataModule
from slices.training.batch import keywords
from slices.training.budget import Budget
from slices.training.compose import compose_app, options
from slices.training.config import PretrainConfig
from slices.training.optim import optimizer_and_schedule
from slices.training.pretrained import n_parameters
from slices.training.quiet import quiet_lightning

PARTS = ("forward", "backward", "optimizer", "teacher")
WARM_UP = 3  # steps


def main() -> None:
    asked = parsed()
    quietly(asked.threads)
    machine = Machine.measured(asked.device, torch.bfloat16 if "bf16" in asked.precision else torch.float32)
    print(
        f"{platform.machine()}, {asked.threads} threads, load {os.getloadavg()[0]:.1f}, "
        f"torch {torch.__version__}: {machine.flops / 1e9:.0f} GFLOP/s, {machine.bandwidth / 1e9:.1f} GB/s"
    )
    print(
        f"{'encoder':30} {'parameters':>11} {'GFLOP':>7} {'MB':>7} {'floor ms':>8} {'bare ms':>8} "
        f"{'x floor':>7} {'x bare':>6} {'stays/s':>8}  % of a step of the Trainer"
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.names or encoders():
            row = measured(name, asked, machine, Path(folder))
            rows.append(row)
            print(line_of(row), flush=True)
    if asked.json:
        about = {"machine": vars(machine), "options": vars(asked), "torch": torch.__version__, "rows": rows}
        Path(asked.json).write_text(json.dumps(about, indent=2), encoding="utf-8")


def quietly(n_threads: int) -> None:
    """This process computes on so many threads, and says nothing that it is not asked."""
    torch.set_num_threads(n_threads)
    quiet_lightning()
    warnings.filterwarnings("ignore")
    logging.getLogger("slices").setLevel(logging.WARNING)


def opened(config: Any) -> StayDataModule:
    """The data of an app's config, prepared where it is absent."""
    section = PretrainConfig.parse(config).data
    assert section is not None
    data = StayDataModule(section)
    data.prepare_data()
    data.setup("fit")
    return data


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--ssl", default="mae")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--hours", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--json")
    parser.add_argument("--trace")
    return parser.parse_args()


def encoders() -> list[str]:
    """All that can be trained anew."""
    return [name for name in options("encoder") if name != "checkpoint"]


def measured(name: str, asked: argparse.Namespace, machine: Machine, folder: Path) -> dict[str, Any]:
    """A row of the table."""
    config = compose_app(
        "pretrain",
        [
            f"encoder={name}",
            f"ssl={asked.ssl}",
            f"training.batch_size={asked.batch}",
            f"data.dataset_dir={folder / 'stays'}",
            f"data.horizon={asked.hours}.0",
        ],
    )
    data = opened(config)
    batches = list(islice(data.train_dataloader(), 8))
    bare = Bare(SSLPretrainModule(config), batches, asked)
    for _ in range(WARM_UP):
        bare.step()
    with Roofline(machine) as limit:
        bare.step()
    n_steps = max(5, round(1.5 / bare.round(3)))
    rates: list[tuple[float, float]] = []
    shares: list[dict[str, float]] = []
    for _ in range(asked.rounds):
        alone = bare.round(n_steps)
        whole, of_data = trained(config, data, n_steps, asked, folder)
        parts = bare.parts(n_steps)
        rates.append((alone, whole))
        used = {part: parts[part] / whole for part in PARTS} | {"data": of_data / whole}
        shares.append(used | {"rest": 1 - sum(used.values())})
    if asked.trace:
        trace(bare, Path(asked.trace) / f"{name}-{asked.ssl}.json")
    step = statistics.median(alone for alone, _ in rates)
    return {
        "encoder": name,
        "ssl": asked.ssl,
        "parameters": n_parameters(bare.module),
        "operations": limit.n_operations,
        "flops": limit.flops,
        "bytes": limit.bytes,
        "floor_ms": 1000 * limit.seconds,
        "bare_ms": 1000 * step,
        "over_floor": step / limit.seconds,
        "over_bare": statistics.median(whole / alone for alone, whole in rates),
        "stays_per_second": asked.batch / statistics.median(whole for _, whole in rates),
        "shares": {part: statistics.median(share[part] for share in shares) for part in shares[0]},
    }


def line_of(row: dict[str, Any]) -> str:
    shares = ", ".join(f"{part} {100 * share:.0f}" for part, share in row["shares"].items())
    return (
        f"{row['encoder']:30} {row['parameters']:11,} {row['flops'] / 1e9:7.2f} {row['bytes'] / 1e6:7.0f} "
        f"{row['floor_ms']:8.1f} {row['bare_ms']:8.1f} {row['over_floor']:7.2f} {row['over_bare']:6.3f} "
        f"{row['stays_per_second']:8.0f}  {shares}"
    )


class Bare:
    """A training loop with nothing around it."""

    def __init__(
        self, module: SSLPretrainModule, batches: list[dict[str, Any]], asked: argparse.Namespace
    ) -> None:
        self.module = module.to(asked.device).train()
        self.objective, self.seconds = module.objective, clock(asked.device)
        self.batches = [on(batch, asked.device) for batch in batches]
        self.autocast = torch.autocast(asked.device, torch.bfloat16, enabled="bf16" in asked.precision)
        self.optimizer: Any = optimizer_and_schedule(module, module.config.optimizer, None)
        self.trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.accepts = accepted_inputs(self.objective) - {"draw"}
        self.n_steps = 0

    def step(self, note: Callable[[str], None] = lambda part: None) -> None:
        batch = self.batches[self.n_steps % len(self.batches)]
        with self.autocast:
            loss, _ = self.objective(batch["timeseries"], **keywords(batch, self.accepts))
        note("forward")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        note("backward")
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        note("optimizer")
        self.n_steps += 1
        self.objective.on_optimizer_step(self.n_steps, 10**6)
        note("teacher")

    def round(self, n_steps: int) -> float:
        """Seconds a step."""
        began = self.seconds()
        for _ in range(n_steps):
            self.step()
        return (self.seconds() - began) / n_steps

    def parts(self, n_steps: int) -> dict[str, float]:
        """Seconds a step of each part, which on a GPU wait for each other here."""
        spent = dict.fromkeys(PARTS, 0.0)
        last = self.seconds()

        def note(part: str) -> None:
            nonlocal last
            now = self.seconds()
            spent[part] += now - last
            last = now

        for _ in range(n_steps):
            last = self.seconds()
            self.step(note)
        return {part: seconds / n_steps for part, seconds in spent.items()}


def on(batch: dict[str, Any], device: str) -> dict[str, Any]:
    return {key: part.to(device) if isinstance(part, torch.Tensor) else part for key, part in batch.items()}


class Clock(L.Callback):
    """Times the steps after the first ones."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.seconds, self.times = seconds, list[float]()

    def on_train_batch_end(self, *_: Any) -> None:
        self.times.append(self.seconds())

    @property
    def a_step(self) -> float:
        return (self.times[-1] - self.times[WARM_UP - 1]) / (len(self.times) - WARM_UP)


class DataTime(Profiler):
    """What getting batches, and moving them to the device, takes of the steps after the first ones."""

    ACTIONS = ("train_dataloader_next", "batch_to_device")

    def __init__(self, seconds: Callable[[], float]) -> None:
        super().__init__()
        self.seconds, self.spent, self.n_batches, self._began = seconds, 0.0, 0, 0.0

    def start(self, action_name: str) -> None:
        if action_name.endswith(self.ACTIONS):
            self._began = self.seconds()

    def stop(self, action_name: str) -> None:
        if not action_name.endswith(self.ACTIONS):
            return
        self.n_batches += action_name.endswith(self.ACTIONS[0])
        if self.n_batches > WARM_UP:
            self.spent += self.seconds() - self._began

    def summary(self) -> str:
        return f"{self.a_batch:.4f} s a batch"

    @property
    def a_batch(self) -> float:
        return self.spent / (self.n_batches - WARM_UP)


def trained(
    config: Any, data: StayDataModule, n_steps: int, asked: argparse.Namespace, folder: Path
) -> tuple[float, float]:
    """Seconds a step of the Trainer as the app sets it up, and of getting its data."""
    timed, profiler = Clock(clock(asked.device)), DataTime(clock(asked.device))
    trainer = trainer_of(
        n_steps,
        folder,
        accelerator="cpu" if asked.device == "cpu" else "gpu",
        precision=asked.precision,
        callbacks=[Budget(), timed],
        profiler=profiler,
    )
    trainer.fit(SSLPretrainModule(config), datamodule=data)
    return timed.a_step, profiler.a_batch


def trainer_of(n_steps: int | None, folder: Path, **options: Any) -> L.Trainer:
    """One with a logger, that neither validates nor writes checkpoints."""
    return L.Trainer(
        max_steps=-1 if n_steps is None else n_steps + WARM_UP,
        limit_val_batches=0,
        devices=1,
        gradient_clip_val=1.0,
        log_every_n_steps=10,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=CSVLogger(folder, name="logs", version=str(time.monotonic_ns())),
        **options,
    )


def trace(bare: Bare, path: Path) -> None:
    """A profile of five steps."""
    from torch.profiler import ProfilerActivity, profile

    path.parent.mkdir(parents=True, exist_ok=True)
    gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    with profile(activities=[ProfilerActivity.CPU, *gpu]) as found:
        for _ in range(5):
            bare.step()
    found.export_chrome_trace(str(path))


if __name__ == "__main__":
    main()
