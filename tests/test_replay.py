"""What a run records of itself, and ``slices-replay``, which repeats it."""

from __future__ import annotations

import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml  # type: ignore[import-untyped]
from lightning.pytorch import Trainer

from cli import CommandLine
from real_runs import assert_same_weights, record_of
from slices.training.environment import commit_of, git_state

NARROW = ["encoder=gru", "encoder.d_model=8"]


def rewrite(run: str, **changes: Any) -> None:
    """As if it had been recorded so."""
    (Path(run) / "record.yaml").write_text(yaml.safe_dump(record_of(run) | changes))


@pytest.fixture
def run(cli: CommandLine, on_tiny: list[str]) -> str:
    """The folder of a pretraining."""
    done = cli("pretrain", *on_tiny, *NARROW, "hydra.run.dir=run")
    assert done.status == 0, done.err
    return "run"


def test_a_run_says_what_it_depends_on_and_how_it_ended(run: str, on_tiny: list[str]) -> None:
    record = record_of(run)
    assert record["app"] == "pretrain" and record["overrides"] == [*on_tiny, *NARROW]
    assert record["versions"]["torch"] == version("torch") and "slices-ssl" in record["versions"]
    assert record["hardware"]["threads"] == torch.get_num_threads() and record["hardware"]["cpu"]
    assert record["data"]["source"] == "synthetic" and record["seed"] == 0
    assert (record["device"], record["precision"]) == ("1 x cpu", "32-true")
    assert record["outcome"] == "complete" and record["started"] <= record["ended"]
    assert record["metrics"]["val/loss"] > 0 and len(record["result"]["sha256"]) == 64


def test_a_replay_ends_with_the_same_weights(run: str, cli: CommandLine) -> None:
    encoder = Path("outputs/encoder.pt")
    encoder.unlink()
    done = cli("replay", run, "hydra.run.dir=again")
    assert done.status == 0, done.err
    assert "the same as run, bit for bit" in done.out and "other than" not in done.out
    assert_same_weights(Path(run), Path("again"))
    assert not encoder.exists()  # it is written into its own folder alone
    assert record_of("again")["overrides"] == record_of(run)["overrides"]


def test_a_replay_says_what_differs_and_by_how_much(run: str, cli: CommandLine) -> None:
    then = record_of(run)
    weights = Path(run, then["result"]["file"])
    held = torch.load(weights, weights_only=True)
    name = next(iter(held["state_dict"]))
    held["state_dict"][name].view(-1)[0] += 0.5
    torch.save(held, weights)
    rewrite(
        run,
        versions=then["versions"] | {"torch": "1.0"},
        metrics=then["metrics"] | {"val/loss": then["metrics"]["val/loss"] - 0.25},
        result=then["result"] | {"sha256": "0" * 64},
    )
    done = cli("replay", run)
    assert done.status == 1
    assert "versions.torch  1.0" in done.out
    (metric,) = (line for line in done.err.splitlines() if "val/loss" in line)
    assert metric.endswith("(+0.25)")
    assert f"0.5 in {name}" in done.err and "train/loss" not in done.err


def test_a_run_that_is_not_complete_is_not_replayed(run: str, cli: CommandLine) -> None:
    rewrite(run, outcome="interrupted")
    done = cli("replay", run)
    assert done.status == 2 and "run train:pretrain resume=run" in done.err
    rewrite(run, app="evaluate")
    assert "replayed are those of pretrain, finetune, baseline" in cli("replay", run).err
    done = cli("replay", "elsewhere")
    assert done.status == 2 and "no record of a run at elsewhere/record.yaml" in done.err
    Path(run, "record.yaml").write_text("[")
    assert "run/record.yaml is damaged" in cli("replay", run).err
    assert "run is missing" in cli("replay").err


def test_a_run_on_other_data_is_replayed_where_that_is_meant(run: str, cli: CommandLine) -> None:
    rewrite(run, data=record_of(run)["data"] | {"dataset": "another"})
    done = cli("replay", run)
    assert done.status == 2 and "fingerprint another then" in done.err and "allow_other_data" in done.err
    done = cli("replay", f"run={run}", "allow_other_data=true")
    assert done.status == 0 and "fingerprint another then" in done.out, done.err


@pytest.mark.slow
def test_fine_tuning_is_replayed_from_the_same_encoder(
    run: str, cli: CommandLine, on_tiny: list[str]
) -> None:
    assert cli("finetune", *on_tiny, "hydra.run.dir=tuned").status == 0
    record = record_of("tuned")
    assert record["starts_from"] and record["metrics"]["test/auroc"] > 0
    Path("outputs/encoder.pt").unlink()
    done = cli("replay", "tuned")
    assert done.status == 2 and "outputs/encoder.pt" in done.err
    done = cli("replay", "tuned", f"checkpoint_path={run}/encoder.pt")  # written there, too
    assert done.status == 0, done.err
    rewrite("tuned", starts_from="0" * 64)
    done = cli("replay", "tuned", f"checkpoint_path={run}/encoder.pt")
    assert done.status == 2 and "run/encoder.pt is not the encoder" in done.err
    done = cli("replay", run, f"checkpoint_path={run}/encoder.pt")
    assert done.status == 2 and "started from no encoder" in done.err


@pytest.mark.slow
def test_a_baseline_is_replayed(cli: CommandLine, on_tiny: list[str]) -> None:
    data = [word for word in on_tiny if not word.startswith("training.")]
    done = cli("baseline", *data, "model=logistic_regression", "tune=false", "hydra.run.dir=fitted")
    assert done.status == 0, done.err
    assert record_of("fitted")["result"]["file"] == "predictions.parquet"
    assert cli("replay", "fitted").status == 0
    rewrite("fitted", result={"file": "predictions.parquet", "sha256": "0" * 64})
    assert cli("replay", "fitted").status == 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (RuntimeError("broken"), "failed"),
        (SystemExit(143), "interrupted"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_a_run_that_does_not_end_well_says_so(
    error: BaseException, outcome: str, cli: CommandLine, on_tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(self: Trainer, *args: Any, **how: Any) -> None:
        assert record_of("run")["outcome"] == "running"
        raise error

    monkeypatch.setattr(Trainer, "fit", fit)
    with pytest.raises((RuntimeError, KeyboardInterrupt, AssertionError)):
        assert cli("pretrain", *on_tiny, *NARROW, "hydra.run.dir=run").status == 0
    record = record_of("run")
    assert record["outcome"] == outcome and record["ended"] and record["result"] is None


def test_the_state_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert git_state(tmp_path) is None
    if not shutil.which("git"):
        pytest.skip("no git")

    def git(*words: str) -> str:
        who = ("-c", "user.name=n", "-c", "user.email=e")
        return subprocess.run(
            ["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    git("init")
    (tmp_path / "code.py").write_text("1")
    assert git_state(tmp_path) is None  # no commit yet
    git("add", "code.py")
    git("commit", "-m", "first")
    assert git_state(tmp_path) == {"commit": git("rev-parse", "HEAD").strip(), "dirty": False}
    (tmp_path / "untracked").touch()
    (tmp_path / "code.py").write_text("2")
    state = git_state(tmp_path)
    assert state is not None and state["dirty"]
    (tmp_path / "hook").write_text("#!/bin/sh\ntouch canary\n")
    (tmp_path / "hook").chmod(0o755)
    git("config", "core.fsmonitor", str(tmp_path / "hook"))  # of a stranger's folder
    assert commit_of(tmp_path) == state["commit"] and not (tmp_path / "canary").exists()
    monkeypatch.setenv("PATH", "")
    assert git_state(tmp_path) is None
