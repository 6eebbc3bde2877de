"""How fast pretraining goes through the whole Trainer, beside another checkout's.

``hatch run bench:end_to_end [mae jepa contrastive ts2vec] [--batch 64] [--rounds 5] [--threads 1]
[--peer FOLDER]``

Each side trains with its own Lightning module, data loader, logging, metrics and clipping, on the same
synthetic stays of 48 hours and at equal sizes (see ``objectives.py``); the other's gets them as dense tensors
in memory, a dict a stay. ``--peer`` is the ``src`` of a checkout of https://github.com/hannesill/SLICES; it
wants pydantic and wandb. They take turns; stays per processor second, with several threads per second, of
the steps after the first ones; the median of ratios.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from bare_encoders import Size
from objectives import OURS, PEER
from omegaconf import OmegaConf
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from training import Clock, opened, quietly, trainer_of
from turns import asked_of, compare, heading, parser_of

from slices.training import StayDataModule
from slices.training.budget import Budget
from slices.training.compose import compose_app

N_STAYS, SECONDS = 3000, 3.0
Fit = Callable[[int], float]  # so many steps; seconds a step of those after the first ones


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--batch", type=int, default=64)
    options = asked_of(parser, worker)
    heading(("peer",), "objective")
    for name in options.names or ["mae", "jepa", "contrastive", "ts2vec"]:
        compare(name, {"peer": bool(options.peer)}, options)


def worker(kind: str, name: str, options: argparse.Namespace) -> None:
    quietly(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        n_parameters, fit = {"slices": ours, "peer": theirs}[kind](name, options, Path(folder))
        print(n_parameters, flush=True)
        n_steps = max(5, round(SECONDS / fit(3)))
        for _ in sys.stdin:
            print(options.batch / fit(n_steps), flush=True)


def seconds_of(options: argparse.Namespace) -> Callable[[], float]:
    return time.process_time if options.threads == 1 else time.perf_counter


def fitted(module: L.LightningModule, data: Any, n_steps: int, options: Any, folder: Path, own: Any) -> float:
    """Seconds a step of a Trainer with a logger."""
    timed = Clock(seconds_of(options))
    trainer_of(n_steps, folder, accelerator="cpu", callbacks=[*own, timed]).fit(module, data)
    return timed.a_step


def stays_of(name: str, options: argparse.Namespace, folder: Path) -> tuple[Any, StayDataModule]:
    """The config of ours, and its data."""
    size = Size()
    config = compose_app(
        "pretrain",
        [
            "encoder=transformer",
            f"encoder.d_model={size.d_model}",
            f"encoder.n_layers={size.n_layers}",
            f"encoder.n_heads={size.n_heads}",
            f"ssl={name}",
            f"training.batch_size={options.batch}",
            f"data.dataset_dir={folder / 'stays'}",
            f"data.source.n_stays={N_STAYS}",
            "data.horizon=48.0",
        ],
    )
    OmegaConf.set_struct(config, False)
    config.ssl = OmegaConf.merge(config.ssl, OURS.get(name, {}))
    return config, opened(config)


def ours(name: str, options: argparse.Namespace, folder: Path) -> tuple[int, Fit]:
    from slices.training import SSLPretrainModule

    config, data = stays_of(name, options, folder)

    def fit(n_steps: int) -> float:
        return fitted(SSLPretrainModule(config), data, n_steps, options, folder, [Budget()])

    return n_trained(SSLPretrainModule(config)), fit


class Dense(Dataset[dict[str, Tensor]]):
    """A dict a stay, out of tensors in memory."""

    def __init__(self, x: Tensor, mask: Tensor) -> None:
        self.x, self.mask = x, mask

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, stay: int) -> dict[str, Tensor]:
        return {"timeseries": self.x[stay], "mask": self.mask[stay]}


def theirs(name: str, options: argparse.Namespace, folder: Path) -> tuple[int, Fit]:
    _, data = stays_of(name, options, folder)
    batch = data.cut(data.splits["train"])
    sys.path.insert(0, options.peer)
    for module in [module for module in sys.modules if module.split(".")[0] == "slices"]:
        del sys.modules[module]
    pretraining: Any = importlib.import_module("slices.training.pretrain_module")
    size = Size()
    encoder = {"name": "transformer", "d_input": batch["mask"].shape[-1], "d_model": size.d_model}
    encoder |= {"n_layers": size.n_layers, "n_heads": size.n_heads, "d_ff": 4 * size.d_model}
    encoder |= {"dropout": 0.1, "pooling": "none", "obs_aware": True}
    config = OmegaConf.create(
        {
            "encoder": encoder,
            "ssl": {"name": PEER[name][0]},
            "optimizer": {"name": "adamw", "lr": 1e-3, "weight_decay": 0.01},
        }
    )

    def fit(n_steps: int) -> float:
        loader = DataLoader(
            Dense(batch["timeseries"], batch["mask"]), options.batch, shuffle=True, drop_last=True
        )
        return fitted(pretraining.SSLPretrainModule(config), loader, n_steps, options, folder, [])

    return n_trained(pretraining.SSLPretrainModule(config)), fit


def n_trained(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


if __name__ == "__main__":
    main()
