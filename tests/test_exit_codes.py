"""What signals leave: the exit status that is documented, and nothing half-written under a final name."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from processes import wait_until
from real_runs import send_in_mid_epoch, start

LONG = ["encoder.d_model=8", "encoder.n_layers=1", "training.batch_size=4", "training.max_epochs=1000"]
LONG += ["training.checkpoint_every_n_steps=3", "encoder_path=mine.pt"]
PREPARE = (sys.executable, "-m", "slices.training.apps.prepare")


def as_a_shell_says(process: subprocess.Popen[str]) -> int:
    status = process.wait(timeout=120)
    return 128 - status if status < 0 else status


@pytest.mark.slow
def test_an_interrupted_run_ends_with_130(on_tiny: list[str], tmp_path: Path) -> None:
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    process = start(tmp_path, "hydra.run.dir=run", *on_tiny, *LONG)
    assert send_in_mid_epoch(process, last, 3, signal.SIGINT) == 130
    shown = (tmp_path / "shown.txt").read_text()
    assert "error: interrupted" in shown and "Traceback" not in shown
    assert torch.load(last, weights_only=True)["global_step"] >= 3
    assert not list(tmp_path.rglob("*.pt"))


@pytest.mark.slow
def test_an_interrupted_sweep_ends_with_130(on_tiny: list[str], tmp_path: Path) -> None:
    process = start(tmp_path, "--multirun", "hydra.sweep.dir=sweep", "seed=0,1", *on_tiny, *LONG)
    last = tmp_path / "sweep" / "0" / "checkpoints" / "last.ckpt"
    assert send_in_mid_epoch(process, last, 3, signal.SIGINT) == 130
    assert not (tmp_path / "sweep" / "1").exists() and not list(tmp_path.rglob("*.pt"))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_preparation_that_ends_leaves_no_dataset(number: int, status: int, tmp_path: Path) -> None:
    asked = ("data.source.n_stays=60000", "data.dataset_dir=prepared")
    process = start(tmp_path, *asked, command=PREPARE)
    wait_until(lambda: any(tmp_path.glob(".prepared.parts/part-*")))
    process.send_signal(number)
    assert as_a_shell_says(process) == status
    assert "Traceback" not in (tmp_path / "shown.txt").read_text()
    assert not (tmp_path / "prepared").exists()
