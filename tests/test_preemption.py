"""A run that is asked to end saves where it is, and the same command goes on from there."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from cli import CommandLine
from real_runs import assert_same_weights, record_of, send_in_mid_epoch, start, weights

# 84 stays in batches of 4: 20 or so steps an epoch; the checkpoint of a schedule comes early, and only once
SETTINGS = [
    *("encoder.d_model=16", "encoder.n_layers=1", "training.batch_size=4", "training.max_epochs=3"),
    *("training.checkpoint_every_n_steps=3", "scheduler.interval=step"),
]
TWO_RANKS = ["trainer.accelerator=cpu", "trainer.devices=2", "+trainer.strategy=ddp"]
RUN = ["hydra.run.dir=run", "resume=auto"]


def scheduler(folder: Path, state: str = "RUNNING", fails: bool = False) -> str:
    """A path in which SLURM's command notes what it is asked, and tells the job's state."""
    program = folder / "bin" / "scontrol"
    program.parent.mkdir()
    lines = ["#!/bin/sh", f'echo "$@" >> {folder}/asked.txt', f"echo JobState={state} Reason=None"]
    program.write_text("\n".join([*lines, f"exit {int(fails)}"]), encoding="utf-8")
    program.chmod(0o755)
    return f"{program.parent}:/usr/bin:/bin"


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGUSR1, marks=pytest.mark.slow)])
def test_the_same_command_goes_on(
    number: signal.Signals, on_tiny: list[str], tmp_path: Path, cli: CommandLine
) -> None:
    settings = [*on_tiny, *SETTINGS, "ssl=jepa"]  # which has a teacher; others are killed in test_resume
    assert cli("pretrain", "hydra.run.dir=undisturbed", *settings).status == 0
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert send_in_mid_epoch(start(tmp_path, *RUN, *settings), last, 21, number) == 143
    shown = (tmp_path / "shown.txt").read_text()
    assert "asked to end: step" in shown and "to go on: hatch run train:pretrain resume=" in shown
    assert "Traceback" not in shown and record_of(tmp_path / "run")["outcome"] == "interrupted"
    assert 21 <= int(weights(tmp_path / "run")["step"]) < int(weights(tmp_path / "undisturbed")["step"])

    assert cli("pretrain", *RUN, *settings).status == 0
    assert_same_weights(tmp_path / "undisturbed", tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "name"),
    [
        ({"SLURM_JOB_ID": "7"}, "7"),
        ({"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "8", "SLURM_ARRAY_TASK_ID": "1"}, "8_1"),
    ],
)
def test_a_job_is_queued_again(job: dict[str, str], name: str, on_tiny: list[str], tmp_path: Path) -> None:
    process = start(tmp_path, *RUN, *on_tiny, *SETTINGS, PATH=scheduler(tmp_path), **job)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert send_in_mid_epoch(process, last, 3, signal.SIGTERM) == 143
    assert (tmp_path / "asked.txt").read_text() == f"show job {name}\nrequeue {name}\n"
    assert f"job {name} is queued again" in (tmp_path / "shown.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True])
def test_a_job_that_is_not_queued_again_says_how_to_go_on(
    fails: bool, on_tiny: list[str], tmp_path: Path
) -> None:
    """One that somebody cancelled, or for which there is no scheduler to be reached."""
    path = scheduler(tmp_path, state="RUNNING" if fails else "CANCELLED", fails=fails)
    process = start(tmp_path, *RUN, *on_tiny, *SETTINGS, PATH=path, SLURM_JOB_ID="7")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert send_in_mid_epoch(process, last, 3, signal.SIGTERM) == 143
    shown = (tmp_path / "shown.txt").read_text()
    assert ("SLURM did not queue job 7 again" in shown) == fails
    assert "to go on: " in shown and "requeue" not in (tmp_path / "asked.txt").read_text()


@pytest.mark.slow
def test_asked_again_and_killed_it_goes_on_from_the_newest_checkpoint(
    on_tiny: list[str], tmp_path: Path
) -> None:
    """Gradients that are accumulated are not in a checkpoint: it ends where an optimizer step does."""
    settings = [*on_tiny, *SETTINGS, "trainer.accumulate_grad_batches=3", "training.batch_size=2"]
    assert start(tmp_path, "hydra.run.dir=undisturbed", *settings).wait() == 0
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    steps = []
    for step, number in ((3, signal.SIGTERM), (12, signal.SIGTERM), (21, signal.SIGKILL)):
        send_in_mid_epoch(start(tmp_path, *RUN, *settings), last, step, number)
        steps.append(int(weights(tmp_path / "run")["step"]))
    assert steps[0] < steps[1] < steps[2]
    assert start(tmp_path, *RUN, *settings).wait() == 0
    assert_same_weights(tmp_path / "undisturbed", tmp_path / "run")
    assert sorted(path.name for path in last.parent.glob("last*")) == ["last.ckpt"]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_of_two_ranks_one_is_asked_and_both_end(strategy: str, on_tiny: list[str], tmp_path: Path) -> None:
    ranks = [*TWO_RANKS[:2], f"+trainer.strategy={strategy}"]
    settings = [*on_tiny, *SETTINGS, *ranks, "training.batch_size=2"]
    assert start(tmp_path, "hydra.run.dir=undisturbed", *settings).wait() == 0
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert send_in_mid_epoch(start(tmp_path, *RUN, *settings), last, 21, signal.SIGTERM) == 143
    assert start(tmp_path, *RUN, *settings).wait() == 0
    assert_same_weights(tmp_path / "undisturbed", tmp_path / "run")


def test_going_on_needs_a_folder_that_stays(on_tiny: list[str], cli: CommandLine) -> None:
    done = cli("pretrain", *on_tiny, "resume=auto")
    assert done.status == 2 and "hydra.run.dir=outputs/pretrain/mine" in done.err


def test_a_run_goes_on_with_its_own_settings_alone(
    on_tiny: list[str], tmp_path: Path, cli: CommandLine
) -> None:
    settings = [*on_tiny, *SETTINGS[:2], *RUN]
    assert cli("pretrain", *settings).status == 0
    done = cli("pretrain", *settings, "seed=7")
    assert done.status == 2
    assert "begun with other settings (seed=7)" in done.err and "another hydra.run.dir" in done.err
