"""Training in which something goes wrong in one batch: with a stay, with the loss, or with its gradient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor

from adapting import MORTALITY
from quick import data_for, trainer_for
from slices.training import FineTuneModule, SSLPretrainModule, StayDataModule

ENCODER = {"name": "transformer", "d_model": 16, "n_layers": 1, "n_heads": 2}
ROW, BATCH = 3, 4  # the stay that is poisoned, and the batch: the fifth
Module = SSLPretrainModule | FineTuneModule


class At(L.Callback):
    """Does something to a batch, before it is trained on, and notes the state of training before each."""

    def __init__(self, change: Callable[[Module, dict[str, Tensor]], None], *batches: int) -> None:
        self.change, self.batches = change, batches
        self.states: list[dict[str, Tensor]] = []

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.states.append(state_of(trainer))
        if trainer.fit_loop.total_batch_idx in self.batches:
            self.change(pl_module, batch)


def state_of(trainer: L.Trainer) -> dict[str, Tensor]:
    """Weights, buffers and moments."""
    found = {name: value.clone() for name, value in trainer.lightning_module.state_dict().items()}
    for i, state in trainer.optimizers[0].state_dict()["state"].items():
        found |= {f"{i}.{name}": torch.as_tensor(value).clone() for name, value in state.items()}
    return found


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one.keys() | other.keys())


def poison(module: Module, batch: dict[str, Tensor], value: float = torch.inf) -> None:
    """The first value of a stay."""
    step, variable = batch["mask"][ROW].nonzero()[0].tolist()
    batch["timeseries"][ROW, step, variable] = value


def overflow(module: Module, batch: dict[str, Tensor]) -> None:
    poison(module, batch, 1e30)


class BadGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * torch.nan


def once(change: Callable[[Tensor], Tensor]) -> Callable[[Module, dict[str, Tensor]], None]:
    """Changes the loss of a batch."""

    def hook(handle: list[Any], inputs: Any, outputs: Any) -> Any:
        handle.pop().remove()
        return (change(outputs[0]), *outputs[1:]) if isinstance(outputs, tuple) else change(outputs)

    def arm(module: Module, batch: dict[str, Tensor]) -> None:
        part = module.objective if isinstance(module, SSLPretrainModule) else module.task_loss
        handle: list[Any] = []
        handle.append(part.register_forward_hook(lambda _, *about: hook(handle, *about)))

    return arm


bad_loss = once(lambda loss: loss * torch.nan)
bad_gradient = once(BadGradient.apply)


def pretraining(tiny: dict[str, Any], on_nonfinite: str = "stop", **ssl: Any) -> SSLPretrainModule:
    torch.manual_seed(0)
    parts = {"ssl": {"name": "mae"} | ssl, "optimizer": {"name": "adamw"}, "encoder": ENCODER, "data": tiny}
    return SSLPretrainModule(parts | {"training": {"on_nonfinite": on_nonfinite}})


def fine_tuning(tiny: dict[str, Any], on_nonfinite: str = "stop") -> FineTuneModule:
    torch.manual_seed(0)
    training = {"freeze_encoder": False, "hide_steps": 0.1, "on_nonfinite": on_nonfinite}
    task = {"task_name": MORTALITY, "task_type": "binary"}
    return FineTuneModule({"encoder": ENCODER, "task": task, "training": training, "data": tiny})


MAKE: dict[str, Any] = {"pretraining": pretraining, "fine-tuning": fine_tuning}


def data_of(tiny: dict[str, Any], module: Module) -> StayDataModule:
    data = data_for(tiny | {"batch_size": 8}, MORTALITY if isinstance(module, FineTuneModule) else None)
    data.prepare_data()
    return data


def fit(
    folder: Path, tiny: dict[str, Any], module: Module, *callbacks: L.Callback, **options: Any
) -> L.Trainer:
    trainer = trainer_for(folder, callbacks=list(callbacks), **{"limit_train_batches": 8} | options)
    trainer.fit(module, datamodule=data_of(tiny, module))
    return trainer
