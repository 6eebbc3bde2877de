"""Ended anywhere, again and again, a run comes to the weights, states and curves of one that was not."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger

from interrupting import Killed, Kills, curves, differing, state
from quick import data_for
from slices.ssl import list_objectives
from slices.training import FineTuneModule, SSLPretrainModule
from slices.training.adaptation.fitting import Fitting
from slices.training.checkpoint_io import AtomicCheckpointIO, candidates, newest_whole
from slices.training.newest import Newest

TASK = "in_hospital_mortality"
PARTS = {"sum": {"parts": {"mae": {}, "jepa": {}}}}
QUICK = ("forecast", "jepa")  # others are killed in test_resume
N_EACH = 30  # interruptions: seventeen kinds of run have more than 500
Train = Callable[[Path], object]


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> Kills:
    return Kills(monkeypatch)


def survive(train: Train, folder: Path, kills: Kills, n: int, every: int | None) -> None:
    """Asserts that runs which are ended ``n`` times in all come to what one comes to that is not.

    With a checkpoint each ``every`` steps, where not after each epoch.
    """
    train(folder / "whole")
    length, chance, interrupted, n_runs = kills.n_places, random.Random(0), 0, 0
    while interrupted < n:
        n_runs += 1
        run, done = folder / f"cut-{n_runs}", False
        while not done:
            kills.after(chance.randrange(1, length))
            try:
                train(run)
                done = True
            except Killed:
                interrupted += 1
        assert differing(state(run), state(folder / "whole")) == []
        found, expected = curves(run), curves(folder / "whole")
        assert found.items() <= expected.items()
        missing = {int(step) + 1 for _, step in expected.keys() - found.keys()}
        assert len(missing) <= interrupted and all(
            every and step % every == 0 for step in missing
        )  # see Newest
    print(f"{interrupted} interruptions in {n_runs} runs, at any of {length} places")


def trainer_for(folder: Path, accumulate: int, callbacks: list[Callback]) -> Trainer:
    folder.mkdir(exist_ok=True)
    logs = CSVLogger(folder, name="", version=f"logs-{len(list(folder.glob('logs-*')))}")
    return Trainer(
        accelerator="cpu",
        max_epochs=3,
        accumulate_grad_batches=accumulate,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        logger=logs,
    )


def newest(folder: Path) -> Path | None:
    return newest_whole(folder) if any(path.exists() for path in candidates(folder)) else None


def pretraining(name: str, tiny: dict[str, Any]) -> tuple[Train, int | None]:
    """With one of several ways to save, to accumulate and to move the rate; how often it saves, in steps."""
    number = list_objectives().index(name)
    accumulate, every = 1 + number % 2, (None, 2, 3)[number % 3]
    reads_labels = name == "supervised_contrastive"
    config = {
        "encoder": {"name": "gru", "d_model": 8, "dropout": 0.1},
        "ssl": {"name": name, **PARTS.get(name, {})},
        "optimizer": {"name": "adamw", "lr": 1e-3},
        "scheduler": {"name": "warmup_cosine", "interval": ("step", "epoch")[number // 2 % 2]},
        "labels": TASK if reads_labels else None,
        "data": tiny | {"batch_size": 16},
    }
    task = {"task": TASK, "per_step": False} if reads_labels else {}

    def train(folder: Path) -> None:
        torch.manual_seed(0)
        trainer = trainer_for(folder, accumulate, [Newest(folder, every)])
        data = data_for(tiny | {"batch_size": 16}, **task)
        trainer.fit(SSLPretrainModule(config), datamodule=data, ckpt_path=newest(folder), weights_only=True)

    return train, every


@pytest.mark.parametrize("name", QUICK)
def test_pretraining(name: str, tiny: dict[str, Any], tmp_path: Path, kills: Kills) -> None:
    train, every = pretraining(name, tiny)
    survive(train, tmp_path, kills, 2, every)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_objectives())
def test_pretraining_with_every_objective(
    name: str, tiny: dict[str, Any], tmp_path: Path, kills: Kills
) -> None:
    train, every = pretraining(name, tiny)
    survive(train, tmp_path, kills, N_EACH, every)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_fine_tuning(tiny: dict[str, Any], pretrained: Path, tmp_path: Path, kills: Kills) -> None:
    config = {
        "checkpoint_path": str(pretrained),
        "task": {"task_name": TASK, "task_type": "binary"},
        "training": {"freeze_encoder": True, "unfreeze_epoch": 1},
        "data": tiny | {"batch_size": 16},
    }

    def train(folder: Path) -> None:
        torch.manual_seed(0)
        module, data = FineTuneModule(config), data_for(tiny | {"batch_size": 16}, TASK, per_step=False)
        data.prepare_data()
        data.setup()
        fitting = Fitting(module, module.config.training, data, folder)
        fitting.fit(trainer_for(folder, 1, fitting.callbacks), newest(folder))

    survive(train, tmp_path, kills, N_EACH, None)
    assert differing(state(tmp_path / "cut-1", "best.ckpt"), state(tmp_path / "whole", "best.ckpt")) == []
