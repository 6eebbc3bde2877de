"""A run that is killed and resumed ends with the weights of one that was not, bit for bit."""

from __future__ import annotations

import csv
import importlib
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from cli import CommandLine
from real_runs import assert_same_weights, record_of, send_in_mid_epoch, start, weights
from slices.training import SSLPretrainModule

NARROW = ["encoder.d_model=16", "encoder.n_layers=1", "training.checkpoint_every_n_steps=2"]


def logged(run: Path) -> dict[str, list[str]]:
    """The means over each epoch, as the run's last process with that epoch logged them."""
    found = {}
    for part in sorted(run.glob("logs*/metrics.csv"), key=lambda path: path.stat().st_mtime):
        with part.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["train/loss"]]
        means = sorted(name for name in rows[0] if name.startswith("train/") and name != "train/loss_step")
        found |= {row["epoch"]: [row[name] for name in means] for row in rows}
    return found


@pytest.mark.parametrize(
    ("ssl", "interval"),
    [("mae", "step"), ("contrastive", "step"), pytest.param("jepa", "epoch", marks=pytest.mark.slow)],
)
def test_killed_in_mid_epoch_and_resumed(
    ssl: str, interval: str, on_tiny: list[str], tmp_path: Path, cli: CommandLine
) -> None:
    # 84 stays in batches of 4: 20 or so steps an epoch, three epochs
    settings = [
        *on_tiny,
        *NARROW,
        f"ssl={ssl}",
        f"scheduler.interval={interval}",
        "training.batch_size=4",
        "training.max_epochs=3",
    ]
    assert cli("pretrain", "hydra.run.dir=undisturbed", *settings).status == 0

    killed = tmp_path / "killed"
    process = start(tmp_path, "hydra.run.dir=killed", *settings)
    last = killed / "checkpoints" / "last.ckpt"
    send_in_mid_epoch(process, last, step=25, number=signal.SIGKILL)  # no handler can run
    steps = torch.load(killed / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    total = int(weights(tmp_path / "undisturbed")["step"])
    assert 25 <= steps < total and steps % (total // 3) != 0  # in the middle of an epoch

    done = cli("pretrain", "resume=killed")
    assert done.status == 0, done.err
    assert_same_weights(tmp_path / "undisturbed", killed)
    ours, theirs = (
        torch.load(tmp_path / run / "encoder.pt", weights_only=True) for run in ("killed", "undisturbed")
    )
    for name, value in theirs["weights"].items():
        assert torch.equal(value, ours["weights"][name]), name
    ended, undisturbed = record_of(killed), record_of(tmp_path / "undisturbed")
    assert ended["result"] == undisturbed["result"] and ended["overrides"] == undisturbed["overrides"]
    assert [before["outcome"] for before in ended["earlier"]] == ["running"]  # it could not say more
    assert logged(killed) == logged(tmp_path / "undisturbed")  # also the epoch that was cut in two


@pytest.mark.parametrize("val_fraction", [0.15, pytest.param(0.0, marks=pytest.mark.slow)])
def test_resuming_a_run_that_is_complete_only_says_so(
    val_fraction: float, on_tiny: list[str], tmp_path: Path, cli: CommandLine
) -> None:
    settings = [*on_tiny, *NARROW[:2], f"data.splits.val_fraction={val_fraction}", "encoder_path=there/e.pt"]
    first = cli("pretrain", *settings, "hydra.run.dir=run")
    assert first.status == 0, first.err
    expected = weights(tmp_path / "run")
    (tmp_path / "run" / "encoder.pt").unlink()
    for _ in range(2):
        done = cli("pretrain", "resume=run")
        assert done.status == 0, done.err
        assert "the run is complete" in done.out
        assert (tmp_path / "run" / "encoder.pt").is_file()
        found = weights(tmp_path / "run")
        assert all(torch.equal(expected[name], found[name]) for name in expected)
    # what to type next is what it was
    following = [re.findall(r"next: (.*)", run.out) for run in (first, done)]
    assert following[0] == following[1] and "data.resolution=4" in following[0][0]
    assert following[0][0].startswith("hatch run train:finetune ")


def test_a_complete_run_returns_its_metric(
    on_tiny: list[str], cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    returned: list[float] = []
    app = importlib.import_module("slices.training.apps.pretrain")
    original = app.pretrain
    monkeypatch.setattr(app, "pretrain", lambda config: returned.append(original(config)))
    for typed in ([*on_tiny, *NARROW[:2], "hydra.run.dir=run"], ["resume=run"]):
        assert cli("pretrain", *typed).status == 0
    assert returned[0] == pytest.approx(returned[1], rel=1e-5)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (OSError("no space"), 1, "no space. What"),
        (MemoryError(), 1, "not enough memory"),
        (KeyError("a"), 2, "states"),
    ],
)
def test_only_wrong_states_are_the_fault_of_the_checkpoint(
    error: Exception,
    status: int,
    said: str,
    on_tiny: list[str],
    cli: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> None:
        raise error

    assert cli("pretrain", *on_tiny, *NARROW[:2], "hydra.run.dir=run").status == 0
    with monkeypatch.context() as patched:
        patched.setattr(SSLPretrainModule, "on_load_checkpoint", fail)
        done = cli("pretrain", "resume=run")
    assert done.status == status and said in done.err
    assert ("run/checkpoints/last.ckpt" in done.err) == (status == 2)
    if status == 2:  # of the same kind, but when they are all restored, though there is nothing left to train
        monkeypatch.setattr(importlib.import_module("slices.training.apps.pretrain"), "_metric", fail)
        with pytest.raises(KeyError):
            cli("pretrain", "resume=run")


@pytest.mark.parametrize("damage", ["cut", "foreign", "other"])
@pytest.mark.parametrize("app", ["pretrain", "finetune"])
def test_a_damaged_checkpoint_is_named(damage: str, app: str, tmp_path: Path, cli: CommandLine) -> None:
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    for name, empty in (("config.yaml", "{}"), ("overrides.yaml", "[]")):
        (tmp_path / "run" / name).write_text(empty)
    torch.save({"state_dict": {}, "loops": torch.zeros(1000)}, checkpoint)
    if damage == "cut":
        checkpoint.write_bytes(checkpoint.read_bytes()[:1500])
    if damage == "foreign":
        checkpoint.write_bytes(b"no checkpoint")
    done = cli(app, "resume=run")
    assert done.status == 2, done.err
    assert "run/checkpoints/last.ckpt" in done.err and "start a new run" in done.err
    assert "Traceback" not in done.err


@pytest.mark.slow
def test_fine_tuning_resumes_with_a_fresh_pooling_that_is_still_trained(
    on_tiny: list[str], tmp_path: Path, cli: CommandLine
) -> None:
    """Of a frozen encoder, what the checkpoint did not hold is trained, in a resumed run too."""
    assert cli("pretrain", *on_tiny, *NARROW[:2]).status == 0
    probe = [*on_tiny, "encoder=flowsheet", *NARROW[:2], "encoder.pooling=attention"]
    probe += ["training.patience=null", "training.batch_size=16"]
    assert cli("finetune", *probe, "training.max_epochs=3", "hydra.run.dir=whole").status == 0
    assert cli("finetune", *probe, "training.max_epochs=2", "hydra.run.dir=cut").status == 0
    before = weights(tmp_path / "cut")
    config = tmp_path / "cut" / "config.yaml"
    config.write_text(config.read_text().replace("max_epochs: 2", "max_epochs: 3"))
    done = cli("finetune", "resume=cut")
    assert done.status == 0, done.err
    found = weights(tmp_path / "cut")
    pool = [name for name in before if name.startswith("encoder.pool")]
    assert pool and not any(torch.equal(before[name], found[name]) for name in pool)
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")


def test_fine_tuning_resumes_without_the_file_it_started_from(
    on_tiny: list[str], tmp_path: Path, cli: CommandLine
) -> None:
    """Two epochs, then a third: gradual unfreezing, the newest epoch and the earlier curves are kept."""
    assert cli("pretrain", *on_tiny, *NARROW[:2]).status == 0
    gradual = ["training.unfreeze_epoch=1", "training.patience=null", "training.batch_size=16"]
    assert cli("finetune", *on_tiny, *gradual, "training.max_epochs=3", "hydra.run.dir=whole").status == 0
    assert cli("finetune", *on_tiny, *gradual, "training.max_epochs=2", "hydra.run.dir=cut").status == 0
    cut = tmp_path / "cut"
    config = (cut / "config.yaml").read_text()
    (cut / "config.yaml").write_text(config.replace("max_epochs: 2", "max_epochs: 3"))
    (tmp_path / "outputs" / "encoder.pt").unlink()
    done = cli("finetune", "resume=cut")
    assert done.status == 0, done.err
    assert_same_weights(tmp_path / "whole", cut)
    assert record_of(cut)["starts_from"] == record_of(tmp_path / "whole")["starts_from"] is not None
    assert (cut / "logs" / "metrics.csv").is_file() and (cut / "logs-1" / "metrics.csv").is_file()
