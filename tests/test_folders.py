"""A folder is one run's, one process's at a time, and the same to all ranks."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from filelock import FileLock

from cli import CommandLine
from real_runs import start

NARROW = ["encoder=gru", "encoder.d_model=8"]


def test_a_run_is_alone_in_its_folder_and_not_written_over(
    on_tiny: list[str], tmp_path: Path, cli: CommandLine
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with FileLock(folder / ".run.lock"):  # as a run that is at work there
        done = cli("pretrain", *on_tiny, *NARROW, "hydra.run.dir=run")
        assert done.status == 2 and "another run is at work in" in done.err
    assert not (folder / "config.yaml").exists()

    assert cli("pretrain", *on_tiny, *NARROW, "hydra.run.dir=run").status == 0
    with FileLock(folder / ".run.lock"):
        assert "another run is at work in" in cli("pretrain", "resume=run").err
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    again = cli("pretrain", *on_tiny, *NARROW, "hydra.run.dir=run")
    assert again.status == 2 and "go on with it by resume=" in again.err
    elsewhere = cli("pretrain", "resume=run", "hydra.run.dir=other")  # whose lock would be another one
    assert elsewhere.status == 2 and "leave out hydra.run.dir" in elsewhere.err
    kept = {path: path.stat().st_mtime_ns for path in before if path.suffix != ".lock"}
    assert kept.items() <= before.items()


def test_a_sweep_that_is_repeated_leaves_no_checkpoint_to_be_taken_for_its_own(
    on_tiny: list[str], tmp_path: Path, cli: CommandLine
) -> None:
    words = ["--multirun", *on_tiny, *NARROW, "hydra.sweep.dir=sweep"]
    assert cli("pretrain", *words, "optimizer.lr=0.5").status == 0
    first = (tmp_path / "sweep" / "0" / "checkpoints" / "last.ckpt").read_bytes()
    assert cli("pretrain", *words, "optimizer.lr=0.001", "+trainer.limit_train_batches=0").status != 0
    assert not list((tmp_path / "sweep" / "0").glob("checkpoints/*.ckpt"))
    assert (tmp_path / "sweep" / "0" / "checkpoints-1" / "last.ckpt").read_bytes() == first


def test_runs_of_the_same_second_have_folders_of_their_own(
    on_tiny: list[str], tmp_path: Path, cli: CommandLine
) -> None:
    for seconds in range(60):  # each of the next ones is taken
        taken = datetime.now() + timedelta(seconds=seconds)
        (tmp_path / "outputs" / "pretrain" / f"{taken:%Y-%m-%d_%H-%M-%S}").mkdir(parents=True)
    done = cli("pretrain", *on_tiny, *NARROW)
    assert done.status == 0, done.err
    (folder,) = (path.parent for path in tmp_path.glob("outputs/pretrain/*/encoder.pt"))
    assert folder.name.endswith("-2")


@pytest.mark.slow
def test_ranks_that_see_different_checkpoints_do_not_go_on(on_tiny: list[str], tmp_path: Path) -> None:
    """Two ranks with a folder of their own each, as on nodes that share no disk."""
    (tmp_path / "0").mkdir(), (tmp_path / "1").mkdir()
    ranks = ["trainer.accelerator=cpu", "trainer.devices=2", "+trainer.strategy=ddp"]
    app = [sys.executable, "-m", "slices.training.apps.pretrain", "resume=auto", "hydra.run.dir=run"]
    words = " ".join(f"'{word}'" for word in [*app, *on_tiny, *NARROW, *ranks])
    torchrun = [
        "--standalone",
        "--nproc-per-node=2",
        "--no-python",
        "bash",
        "-c",
        f"cd $RANK && exec {words}",
    ]
    command = (sys.executable, "-m", "torch.distributed.run")
    assert start(tmp_path, *torchrun, command=command).wait(timeout=300) == 0
    assert (tmp_path / "0" / "run" / "checkpoints" / "last.ckpt").is_file()  # and rank 1 has none
    assert start(tmp_path, *torchrun, command=command).wait(timeout=300) != 0
    assert "the ranks would go on from different steps" in (tmp_path / "shown.txt").read_text()
