"""How soon pretraining is as good as what another checkout's MAE is after its default 100 epochs.

``hatch run bench:time_to_quality --peer FOLDER [--epochs 10] [--peer-epochs 100] [override ...]``

Both pretrain on the training stays of one fold, one thread each, side by side: the other's MAE with its
default model (transformer of 64, 2 layers), batch, rate and schedule; ours as overrides of ``pretrain`` say,
as ``data=physionet2012 data.splits.train_sets=[a] data.splits.n_folds=5 ssl=time_to_event``. Quality is the
AUROC of a linear probe, fitted on the mean token of the training stays, on the fold's validation stays. Time
is that of the processor, without what the probe takes. ``--peer`` as in ``end_to_end.py``.
"""

from __future__ import annotations

import argparse
import importlib
import math
import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from end_to_end import Dense, n_trained
from omegaconf import OmegaConf
from torch import Tensor
from torch.utils.data import DataLoader
from training import quietly, trainer_of

from slices.training import SSLPretrainModule, StayDataModule
from slices.training.compose import compose_app
from slices.training.config import PretrainConfig
from slices.training.evaluation.metrics import task_scores
from slices.training.evaluation.probe import DEFAULT_STRENGTH, fit_probe
from slices.training.watching import embed, inputs_of

AT_ONCE = 256
Curve = list[tuple[float, float]]  # seconds, AUROC


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--peer", required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--peer-epochs", type=int, default=100)
    parser.add_argument("--task", default="in_hospital_mortality")
    asked = parser.parse_args()
    prepared = compose_app("pretrain", asked.overrides)
    _, data = config_and_data(prepared, None)
    data.prepare_data()
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(work, asked) for work in (theirs, ours)]
        (peer, of_peer), (own, of_own) = (one.result() for one in running)
    for name, size, curve in (("peer", peer, of_peer), ("slices", own, of_own)):
        print(f"{name}, {size:,} parameters: " + ", ".join(f"{s:.0f} s {auroc:.3f}" for s, auroc in curve))
    seconds, target = of_peer[-1]
    for name, curve in (("peer", of_peer), ("slices", of_own)):
        print(f"{name}: the peer's last {target:.3f} first after {first(curve, target):.0f} s, ", end="")
        print(f"for good after {for_good(curve, target):.0f} s")
    print(f"for good after {for_good(of_own, target) / seconds:.3f} of the peer's time")


def first(curve: Curve, target: float) -> float:
    """Seconds until it is reached; infinity where it never is."""
    return next((seconds for seconds, auroc in curve if auroc >= target), math.inf)


def for_good(curve: Curve, target: float) -> float:
    """Seconds from which on it is kept."""
    below = max((seconds for seconds, auroc in curve if auroc < target), default=0.0)
    return next((seconds for seconds, _ in curve if seconds > below), math.inf)


def config_and_data(config: Any, task: str | None) -> tuple[PretrainConfig, StayDataModule]:
    parsed = PretrainConfig.parse(config)
    assert parsed.data is not None
    return parsed, StayDataModule(parsed.data, task=task)


class Quality:
    """Scores embeddings of the stays with a label."""

    def __init__(self, config: Any, task: str) -> None:
        _, self.data = config_and_data(config, task)
        self.data.setup("fit")
        assert self.data.task is not None and self.data.task.task_type == "binary"
        self.batches = {split: list(self._cut(split)) for split in ("train", "val")}
        self.label = {
            split: torch.as_tensor(self.data.split_labels(split)[0]).long() for split in self.batches
        }

    def _cut(self, split: str) -> Any:
        rows = self.data.splits[split]
        for piece in np.array_split(rows, -(-len(rows) // AT_ONCE)):
            yield self.data.cut(piece)

    @torch.no_grad()
    def of(self, embed: Any) -> float:
        """The probe's AUROC, of what ``embed(batch)`` gives, (B, F)."""
        features = {split: torch.cat([embed(b) for b in batches]) for split, batches in self.batches.items()}
        probe = fit_probe(features["train"], self.label["train"], "binary", strengths=(DEFAULT_STRENGTH,))
        return task_scores("binary", probe.predict(features["val"]), self.label["val"])["auroc"].item()


class Scores(L.Callback):
    """After some epochs, the time that training has taken, and the quality."""

    def __init__(self, quality: Quality, embed: Any, every: int) -> None:
        self.quality, self.embed, self.every = quality, embed, every
        self.curve: Curve = []
        self.apart = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.began = time.process_time()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if (trainer.current_epoch + 1) % self.every:
            return
        now = time.process_time()
        pl_module.eval()
        self.curve.append((now - self.began - self.apart, self.quality.of(self.embed)))
        pl_module.train()
        self.apart += time.process_time() - now


def ours(asked: argparse.Namespace) -> tuple[int, Curve]:
    """Number of parameters, and the curve."""
    quietly(1)
    torch.manual_seed(0)
    config = compose_app("pretrain", [*asked.overrides, f"training.max_epochs={asked.epochs}"])
    _, data = config_and_data(config, None)
    data.setup("fit")
    module = SSLPretrainModule(config)
    scores = Scores(Quality(config, asked.task), lambda batch: embed(module, inputs_of(module, batch)), 1)
    fitted(module, data, asked.epochs, scores)
    return n_trained(module), scores.curve


def theirs(asked: argparse.Namespace) -> tuple[int, Curve]:
    quietly(1)
    torch.manual_seed(0)
    config = compose_app("pretrain", asked.overrides)
    quality = Quality(config, asked.task)
    _, data = config_and_data(config, None)
    data.setup("fit")
    batch = data.cut(data.splits["train"])
    sys.path.insert(0, asked.peer)
    for module in [module for module in sys.modules if module.split(".")[0] == "slices"]:
        del sys.modules[module]
    pretraining: Any = importlib.import_module("slices.training.pretrain_module")
    encoder = {"name": "transformer", "d_input": batch["mask"].shape[-1], "d_model": 64, "n_layers": 2}
    encoder |= {"n_heads": 4, "d_ff": 256, "dropout": 0.1, "pooling": "none", "obs_aware": True}
    schedule = {"name": "warmup_cosine", "warmup_epochs": asked.peer_epochs // 10, "eta_min": 1e-6}
    module = pretraining.SSLPretrainModule(
        OmegaConf.create(
            {
                "encoder": encoder,
                "ssl": {"name": "mae"},
                "optimizer": {"name": "adamw", "lr": 1e-3, "weight_decay": 0.01},
                "scheduler": schedule | {"max_epochs": asked.peer_epochs},
            }
        )
    )
    loader = DataLoader(Dense(batch["timeseries"], batch["mask"]), 256, shuffle=True, drop_last=True)

    def mean_token(batch: dict[str, Tensor]) -> Tensor:
        tokens: Tensor = module.get_encoder()(batch["timeseries"], batch["mask"])
        return tokens.mean(1)

    scores = Scores(quality, mean_token, max(1, asked.peer_epochs // 10))
    fitted(module, loader, asked.peer_epochs, scores)
    return n_trained(module), scores.curve


def fitted(module: L.LightningModule, data: Any, n_epochs: int, scores: Scores) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trainer_of(None, Path(folder), accelerator="cpu", callbacks=[scores], max_epochs=n_epochs).fit(
            module, data
        )


if __name__ == "__main__":
    main()
