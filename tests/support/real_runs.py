"""Runs in processes of their own, which are sent signals, and what they leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml  # type: ignore[import-untyped]

PRETRAIN = (sys.executable, "-m", "slices.training.apps.pretrain")


def start(
    folder: Path, *arguments: str, command: tuple[str, ...] = PRETRAIN, **environment: str
) -> subprocess.Popen[str]:
    """An app in ``folder``; its output goes to a file there, as a pipe that nobody reads would stop it."""
    own: Mapping[str, str] = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    with (folder / "shown.txt").open("w", encoding="utf-8") as shown:
        return subprocess.Popen(
            [*command, *arguments], cwd=folder, stdout=shown, stderr=subprocess.STDOUT, env=own, text=True
        )


def send_in_mid_epoch(
    process: subprocess.Popen[str], checkpoint: Path, step: int, number: signal.Signals
) -> int:
    """A signal, once a checkpoint of at least this step is written; the status it ends with."""
    deadline = time.monotonic() + 120
    try:
        while time.monotonic() < deadline and process.poll() is None:
            if checkpoint.exists() and torch.load(checkpoint, weights_only=True)["global_step"] >= step:
                process.send_signal(number)
                return process.wait(timeout=120)
            time.sleep(0.005)
    finally:
        process.kill()  # where it is still there
        process.wait()
    raise AssertionError("the run ended, or hung, before it could be sent a signal")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Everything that training goes on from."""
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    optimizer = checkpoint["optimizer_states"][0]["state"]
    moments = {f"{i}.{name}": value for i, state in optimizer.items() for name, value in state.items()}
    found = checkpoint["state_dict"] | moments | {"step": checkpoint["global_step"]}
    return {name: torch.as_tensor(value) for name, value in found.items()}


def record_of(run: str | Path) -> dict[str, Any]:
    """What a run recorded of itself."""
    record: dict[str, Any] = yaml.safe_load((Path(run) / "record.yaml").read_text(encoding="utf-8"))
    return record


def assert_same_weights(run: Path, other: Path) -> None:
    """Bit for bit."""
    expected, found = weights(run), weights(other)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
