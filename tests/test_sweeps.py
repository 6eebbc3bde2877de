"""Sweeps: found by Optuna, gone on with, many at once, and on a cluster's launcher."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from cli import CommandLine
from real_runs import start
from slices.training.apps.launch import explain

SMALL = ["encoder=gru", "encoder.d_model=8"]
WATCHED = ["+sweep=pretraining", "hydra.sweep.dir=sweep", "data.splits.val_fraction=0.4"]
WATCHED += ["data.splits.seed=1", "watch.task=in_hospital_mortality"]  # val has both classes


def trials(database: Path) -> list[tuple[str, float | None]]:
    """State and value of each."""
    with sqlite3.connect(database) as connection:
        rows = connection.execute(
            "select state, value from trials left join trial_values using (trial_id) order by number"
        )
        return list(rows)


@pytest.mark.slow
def test_the_same_command_goes_on_with_a_sweep(on_tiny: list[str], tmp_path: Path, cli: CommandLine) -> None:
    words = ["--multirun", *on_tiny, *SMALL, *WATCHED, "hydra.sweeper.n_trials=1"]
    for _ in range(2):
        done = cli("pretrain", *words)
        assert done.status == 0, done.err
    found = trials(tmp_path / "sweep" / "trials.db")
    assert [state for state, _ in found] == ["COMPLETE", "COMPLETE"]
    assert all(value is not None and 0 <= value <= 1 for _, value in found)  # an AUROC, not a loss
    assert len(list((tmp_path / "sweep").glob("*/encoder.pt"))) == 2
    assert not (tmp_path / "outputs" / "encoder.pt").exists()


@pytest.mark.slow
def test_a_trial_that_fails_does_not_end_the_others(
    on_tiny: list[str], tmp_path: Path, cli: CommandLine
) -> None:
    for ratio in (0.3, 1.5, 0.6):
        words = ["--multirun", *on_tiny, *SMALL, *WATCHED, "hydra.sweeper.n_trials=1"]
        done = cli("pretrain", *words, "ssl=mae", f"ssl.mask_ratio={ratio}")
        assert done.status == 0, done.err
        assert ("mask_ratio=1.5" in done.out + done.err) == (ratio > 1)
    states = [state for state, _ in trials(tmp_path / "sweep" / "trials.db")]
    assert states == ["COMPLETE", "FAIL", "COMPLETE"]


@pytest.mark.slow
def test_a_sweep_does_not_take_a_loss_for_the_score_of_a_probe(
    on_tiny: list[str], tmp_path: Path, cli: CommandLine
) -> None:
    words = ["--multirun", *on_tiny, *SMALL, *WATCHED[:2], "watch.task=in_hospital_mortality", "ssl=mae"]
    done = cli("pretrain", *words, "data.splits.val_fraction=0.02", "hydra.sweeper.n_trials=1")
    assert done.status == 1 and "no trial of the sweep has ended well" in done.err
    assert [state for state, _ in trials(tmp_path / "sweep" / "trials.db")] == ["FAIL"]
    assert "no probe's AUROC for the sweep to go by" in done.out + done.err


def test_a_sweep_for_the_worst_run_is_refused(on_tiny: list[str], cli: CommandLine) -> None:
    words = ["--multirun", "+sweep=finetuning", *on_tiny, "checkpoint_path=null", "encoder=gru"]
    done = cli("finetune", *words, "task=length_of_stay", "hydra.sweep.dir=sweep", "hydra.sweeper.n_trials=1")
    assert done.status == 1 and "hydra.sweeper.direction=minimize" in done.out + done.err


@pytest.mark.slow
def test_a_sweep_of_pretraining_needs_a_task_to_go_by(on_tiny: list[str], cli: CommandLine) -> None:
    done = cli("pretrain", "--multirun", *on_tiny, *SMALL, "+sweep=pretraining", "hydra.sweep.dir=sweep")
    assert done.status != 0 and "watch.task" in done.out + done.err


@pytest.mark.slow
def test_two_commands_share_a_sweep_of_fine_tuning(on_tiny: list[str], tmp_path: Path) -> None:
    scratch = ["checkpoint_path=null", "encoder=gru", "encoder.d_model=8"]
    words = ["--multirun", "+sweep=finetuning", *on_tiny, *scratch, *WATCHED[1:4]]
    words += ["hydra.sweeper.n_trials=2"]
    command = (sys.executable, "-m", "slices.training.apps.finetune")
    first = start(tmp_path, *words, command=command)
    while not (tmp_path / "sweep" / "trials.db").exists():
        assert first.poll() is None
    assert start(tmp_path, *words, command=command).wait(timeout=300) == 0
    assert first.wait(timeout=300) == 0
    found = trials(tmp_path / "sweep" / "trials.db")
    assert len(found) == 4 and all(state == "COMPLETE" for state, _ in found)


@pytest.mark.slow
def test_a_launcher_starts_jobs_that_go_on(on_tiny: list[str], tmp_path: Path) -> None:
    """SLURM's launcher, as it runs jobs on this machine; what was done is not done again."""
    words = ["--multirun", *on_tiny, *SMALL, "ssl=mae,vicreg", "hydra/launcher=submitit_local"]
    words += ["resume=auto", "hydra.sweep.dir=sweep", "encoder_path=null"]
    for _ in range(2):
        assert start(tmp_path, *words).wait(timeout=300) == 0, (tmp_path / "shown.txt").read_text()
    logs = [path.read_text() for path in (tmp_path / "sweep").glob(".submitit/*/*.out")]
    assert sum("the run is complete" in text for text in logs) == 2
    assert all((tmp_path / "sweep" / str(run) / "encoder.pt").is_file() for run in range(2))


@pytest.mark.skipif(shutil.which("srun") is not None, reason="SLURM is here")
def test_without_a_cluster_its_launcher_says_so(cli: CommandLine) -> None:
    done = cli("pretrain", "--multirun", "hydra/launcher=submitit_slurm", "seed=0,1")
    assert done.status == 2 and "there is no srun here" in done.err


def test_a_plugin_that_is_not_installed_is_named_with_its_extra() -> None:
    message = "Could not find 'hydra/launcher/submitit_slurm'"
    assert "slices-training[slurm]" in explain(ValueError(message), "pretrain")
    assert "slices-training[sweep]" in explain(
        ValueError("Could not find 'hydra/sweeper/optuna'"), "pretrain"
    )


def asked(script: str, folder: Path, *words: str) -> list[str]:
    """What a job of examples/slurm gives to ``srun``, for which there is a stand-in."""
    (folder / "srun").write_text('#!/bin/sh\nprintf "%s\\n" "$@" > asked.txt\n', encoding="utf-8")
    (folder / "srun").chmod(0o755)
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "mine"}
    path = Path(__file__).resolve().parents[1] / "examples" / "slurm" / script
    subprocess.run(["bash", str(path), *words], cwd=folder, env=environment, check=True)
    app, *asked_for = (folder / "asked.txt").read_text().splitlines()
    assert app == "slices-pretrain"
    return asked_for


@pytest.mark.parametrize(
    ("script", "folder", "expected"),
    [
        ("pretrain.sbatch", "hydra.run.dir=outputs/pretrain/job-7", ["resume: auto"]),
        ("sweep.sbatch", "hydra.sweep.dir=outputs/sweeps/mine", ["task: in_hospital_mortality"]),
    ],
)
def test_the_jobs_of_the_examples_are_commands_that_there_are(
    script: str, folder: str, expected: list[str], tmp_path: Path
) -> None:
    words = asked(script, tmp_path, "seed=3")
    assert folder in words
    composed = subprocess.run(
        [
            sys.executable,
            "-m",
            "slices.training.apps.pretrain",
            *(word for word in words if word != "--multirun"),
            "--cfg",
            "job",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(line in composed.stdout for line in ["precision: bf16-mixed", "seed: 3", *expected])
