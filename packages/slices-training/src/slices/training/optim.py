"""Optimizers and learning rate schedules by name.

Schedule lengths are given in epochs. With ``interval: step`` the same curve is followed step by step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LRScheduler,
    ReduceLROnPlateau,
    StepLR,
)

from slices.encoders.config import require
from slices.encoders.registry import Registry, make_config
from slices.training.data.datamodule import StayDataModule
from slices.training.errors import UserError
from slices.training.parameter_groups import Groups, Setting, parameter_groups
from slices.training.ranges import named, require_float32

ADAM_STATE = {"step", "exp_avg", "exp_avg_sq"}  # of each parameter that had a gradient


@dataclass(kw_only=True)
class OptimizerConfig:
    """What all optimizers share: learning rate and weight decay (L2 for Adam and SGD)."""

    name: str
    lr: float
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        require(self.lr > 0, f"lr must be above 0, got {self.lr}")
        require(self.weight_decay >= 0, f"weight_decay must be at least 0, got {self.weight_decay}")
        require_float32(self, "lr", "weight_decay")

    def build(self, parameters: Iterable[nn.Parameter] | Groups) -> Optimizer:
        raise NotImplementedError(f"{type(self).__name__} does not say how to build its optimizer")


@dataclass(kw_only=True)
class AdamWConfig(OptimizerConfig):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    name: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_betas(self.betas)

    def build(self, parameters: Iterable[nn.Parameter] | Groups) -> Optimizer:
        return AdamW(parameters, lr=self.lr, weight_decay=self.weight_decay, betas=self.betas)


@dataclass(kw_only=True)
class AdamConfig(OptimizerConfig):
    """Adam (Kingma and Ba 2015)."""

    name: str = "adam"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_betas(self.betas)

    def build(self, parameters: Iterable[nn.Parameter] | Groups) -> Optimizer:
        return Adam(parameters, lr=self.lr, weight_decay=self.weight_decay, betas=self.betas)


@dataclass(kw_only=True)
class SGDConfig(OptimizerConfig):
    """Stochastic gradient descent with momentum."""

    name: str = "sgd"
    lr: float = 1e-2
    momentum: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.momentum < 1, f"momentum must be in [0, 1), got {self.momentum}")

    def build(self, parameters: Iterable[nn.Parameter] | Groups) -> Optimizer:
        return SGD(parameters, lr=self.lr, weight_decay=self.weight_decay, momentum=self.momentum)


def _check_betas(betas: tuple[float, float]) -> None:
    require(all(0 <= beta < 1 for beta in betas), f"betas must be in [0, 1), got {list(betas)}")


class Length:
    """How long a training run is; asked of its trainer only where a schedule does not say so itself.

    Raises:
        UserError: there is no trainer yet, or it has no limit of epochs or steps.
    """

    def __init__(self, module: LightningModule) -> None:
        self._module = module

    @property
    def epochs(self) -> float:
        """Epochs that the trainer will run, a part of one included."""
        trainer, limits = self._trainer, []
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            limits.append(float(trainer.max_epochs))
        if trainer.max_steps > 0:
            limits.append(trainer.max_steps / self.steps_per_epoch)
        if not limits:
            raise UserError("the length of the schedule is unknown: set trainer.max_epochs or max_steps")
        return min(limits)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return math.ceil(self._batches_per_epoch() / self._trainer.accumulate_grad_batches)

    @property
    def validates(self) -> bool:
        """Will there be validation at all?"""
        trainer = self._trainer
        datamodule = getattr(trainer, "datamodule", None)
        empty = isinstance(datamodule, StayDataModule) and not datamodule.sizes["val"]
        return not empty and trainer.limit_val_batches != 0

    def _batches_per_epoch(self) -> float:
        trainer = self._trainer
        datamodule = getattr(trainer, "datamodule", None)
        if not isinstance(datamodule, StayDataModule):
            _ = trainer.estimated_stepping_batches  # has Lightning set up the data
            return trainer.num_training_batches
        # Ours is asked itself: set up at this moment, it would not be told where a resumed run had stopped.
        batches, limit = len(datamodule.train_dataloader()), trainer.limit_train_batches
        return min(batches, limit) if isinstance(limit, int) else int(batches * limit)

    @property
    def _trainer(self) -> Trainer:
        try:
            return self._module.trainer
        except RuntimeError as error:
            raise ValueError(
                "without a trainer a schedule must say its own length: give max_epochs or T_max"
            ) from error


@dataclass(kw_only=True)
class SchedulerConfig:
    """A schedule is moved once per epoch, or once per optimizer step."""

    name: str
    interval: Literal["epoch", "step"] = "epoch"

    def build(self, optimizer: Optimizer, length: Length) -> LRScheduler:
        raise NotImplementedError(f"{type(self).__name__} does not say how to build its schedule")

    def _unit(self, length: Length) -> int:
        """Scheduler moves per epoch."""
        return length.steps_per_epoch if self.interval == "step" else 1


@dataclass(kw_only=True)
class WarmupCosineConfig(SchedulerConfig):
    """Linear warm-up to the base rate (Goyal 2017), then cosine decay to ``eta_min`` (Loshchilov 2017).

    ``max_epochs`` not given: the trainer's. ``warmup_epochs`` not given: a tenth of it.
    """

    name: str = "warmup_cosine"
    warmup_epochs: float | None = None
    max_epochs: int | None = None
    eta_min: float = 1e-6

    def __post_init__(self) -> None:
        _require_at_least(1, max_epochs=self.max_epochs)
        _require_at_least(0, warmup_epochs=self.warmup_epochs, eta_min=self.eta_min)

    def build(self, optimizer: Optimizer, length: Length) -> LRScheduler:
        _refuse_high_floor(self.eta_min, optimizer)
        epochs = length.epochs if self.max_epochs is None else self.max_epochs
        warmup = epochs / 10 if self.warmup_epochs is None else self.warmup_epochs
        if warmup > epochs:
            raise UserError(
                f"scheduler.warmup_epochs={warmup:g} is longer than the schedule of {epochs:g} epochs: "
                "shorten it, or leave it out for a tenth of the schedule"
            )
        unit = self._unit(length)
        floors = [self.eta_min / group["lr"] for group in optimizer.param_groups]
        return LambdaLR(optimizer, [warmup_cosine(warmup * unit, epochs * unit, floor) for floor in floors])


def warmup_cosine(warmup: float, total: float, floor: float) -> Callable[[int], float]:
    """The factor on the base rate at move ``i``: ``(i+1)/(warmup+1)`` at first, then cosine to ``floor``.

    >>> [round(warmup_cosine(2, 4, 0.0)(i), 3) for i in range(5)]
    [0.333, 0.667, 1.0, 0.5, 0.0]
    """

    def factor(move: int) -> float:
        if move < warmup:
            return (move + 1) / (warmup + 1)
        progress = min(1.0, (move - warmup) / max(total - warmup, 1))
        return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2

    return factor


@dataclass(kw_only=True)
class CosineConfig(SchedulerConfig):
    """Cosine annealing over ``T_max`` epochs (not given: the trainer's) to ``eta_min``."""

    name: str = "cosine"
    T_max: int | None = None
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        _require_at_least(1, T_max=self.T_max)
        _require_at_least(0, eta_min=self.eta_min)

    def build(self, optimizer: Optimizer, length: Length) -> LRScheduler:
        _refuse_high_floor(self.eta_min, optimizer)
        t_max = (length.epochs if self.T_max is None else self.T_max) * self._unit(length)
        return CosineAnnealingLR(optimizer, T_max=max(1, round(t_max)), eta_min=self.eta_min)


@dataclass(kw_only=True)
class StepConfig(SchedulerConfig):
    """The rate is multiplied by ``gamma`` every ``step_size`` epochs."""

    name: str = "step"
    step_size: int = 30
    gamma: float = 0.1

    def __post_init__(self) -> None:
        _require_at_least(1, step_size=self.step_size)
        require(0 < self.gamma <= 1, f"gamma must be above 0, up to 1, got {self.gamma}")

    def build(self, optimizer: Optimizer, length: Length) -> LRScheduler:
        return StepLR(optimizer, step_size=self.step_size * self._unit(length), gamma=self.gamma)


@dataclass(kw_only=True)
class PlateauConfig(SchedulerConfig):
    """The rate is multiplied by ``factor`` when ``monitor`` has not improved for ``patience`` epochs."""

    name: str = "plateau"
    mode: Literal["min", "max"] = "min"
    factor: float = 0.1
    patience: int = 10
    monitor: str = "val/loss"

    def __post_init__(self) -> None:
        require(self.interval == "epoch", "plateau watches a metric of an epoch: it has only interval=epoch")
        require(0 < self.factor < 1, f"factor must be between 0 and 1, got {self.factor}")
        _require_at_least(0, patience=self.patience)

    def build(self, optimizer: Optimizer, length: Length) -> LRScheduler:
        if self.monitor.startswith("val/") and not length.validates:
            raise UserError(
                f"scheduler=plateau watches {self.monitor}, but nothing is validated: give "
                "data.splits.val_fraction, watch scheduler.monitor=train/loss, or take another scheduler"
            )
        return ReduceLROnPlateau(optimizer, mode=self.mode, factor=self.factor, patience=self.patience)


def _require_at_least(low: float, **values: float | None) -> None:
    for name, value in values.items():
        require(value is None or low <= value < math.inf, f"{name} must be at least {low}, got {value}")


def _refuse_high_floor(eta_min: float, optimizer: Optimizer) -> None:
    lr = min(group["lr"] for group in optimizer.param_groups)
    if eta_min > lr:
        raise UserError(
            f"scheduler.eta_min={eta_min:g} is above the lowest rate, {lr:g} (optimizer.lr, and in "
            "fine-tuning training.head_lr and layer_decay): the rate would rise"
        )


def _fuse(optimizer: Optimizer) -> None:
    """Has Adam and AdamW update all parameters in one kernel, where they can: small models step sooner.

    SGD's kernel wants a gradient of every parameter in its first step, which one that joins later has not.
    """
    groups = optimizer.param_groups
    parameters = [parameter for group in groups for parameter in group["params"]]
    can = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
    if can and type(optimizer) in (Adam, AdamW):
        for group in groups:
            group["fused"] = True


def _check_whole(optimizer: Optimizer, loaded: Mapping[str, Any]) -> None:
    """Raises ``ValueError`` for a state that is about to be loaded, and lacks what a step needs."""
    for number, state in loaded["state"].items():
        require(isinstance(state, Mapping), f"its optimizer_states of parameter {number} are no mapping")
        lacking = sorted(ADAM_STATE - state.keys()) if state else []
        require(not lacking, f"its optimizer_states lack {', '.join(lacking)} of parameter {number}")


def _check_states(parameters: Mapping[str, nn.Parameter], optimizer: Optimizer) -> None:
    """Raises ``ValueError`` for a state that was loaded, and is not of its parameter's shape."""
    for name, parameter in parameters.items():
        for kind, state in optimizer.state.get(parameter, {}).items():
            expected = () if kind == "step" else tuple(parameter.shape)
            found = tuple(state.shape) if isinstance(state, Tensor) else type(state).__name__
            require(
                state is None or found == expected,  # SGD's momentum, where there is none
                f"in its optimizer_states {kind} of {name} is {found}: a shape of {expected} is wanted",
            )


OPTIMIZER_REGISTRY: Registry[type[OptimizerConfig]] = Registry("optimizer", "slices.optimizers")
OPTIMIZER_REGISTRY.update(adamw=AdamWConfig, adam=AdamConfig, sgd=SGDConfig)

SCHEDULER_REGISTRY: Registry[type[SchedulerConfig]] = Registry("scheduler", "slices.schedulers")
SCHEDULER_REGISTRY.update(
    warmup_cosine=WarmupCosineConfig, cosine=CosineConfig, step=StepConfig, plateau=PlateauConfig
)


def optimizer_config(given: Mapping[str, Any] | OptimizerConfig) -> OptimizerConfig:
    """``{name: adamw, lr: ...}`` as its dataclass; without a name, AdamW."""
    if isinstance(given, OptimizerConfig):
        return given
    given = {"name": "adamw", **given} if isinstance(given, Mapping) else given
    return make_config(OPTIMIZER_REGISTRY[named(given, "optimizer", OPTIMIZER_REGISTRY)], given, "optimizer")


def scheduler_config(given: Mapping[str, Any] | SchedulerConfig | None) -> SchedulerConfig | None:
    """``{name: cosine, ...}`` as its dataclass; nothing is a constant rate."""
    if isinstance(given, SchedulerConfig):
        return given
    if given is None or given == {}:
        return None
    return make_config(SCHEDULER_REGISTRY[named(given, "scheduler", SCHEDULER_REGISTRY)], given, "scheduler")


def optimizer_and_schedule(
    module: LightningModule,
    optimizer: OptimizerConfig,
    scheduler: SchedulerConfig | None,
    groups: Groups | None = None,
) -> OptimizerLRScheduler:
    """Both, in the form that Lightning takes from ``configure_optimizers``.

    ``groups`` are by default all parameters at one rate, those of one dimension without weight decay.
    """
    if groups is None:
        groups = parameter_groups((p, Setting(optimizer.lr)) for p in module.parameters())
    built = optimizer.build(groups)
    _fuse(built)
    if type(built) in (Adam, AdamW):
        built.register_load_state_dict_pre_hook(_check_whole)
    built.register_load_state_dict_post_hook(partial(_check_states, dict(module.named_parameters())))
    if scheduler is None:
        return built
    schedule: dict[str, Any] = {
        "scheduler": scheduler.build(built, Length(module)),
        "interval": scheduler.interval,
    }
    if isinstance(scheduler, PlateauConfig):
        schedule["monitor"] = scheduler.monitor
    return {"optimizer": built, "lr_scheduler": schedule}  # type: ignore[return-value]
