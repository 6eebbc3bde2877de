"""From a composed config to typed parts, once.

The dataclasses here refuse what they do not know. Nothing further in reads a loose mapping.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, TypeVar

from lightning.pytorch import Trainer
from omegaconf import DictConfig

from slices.encoders import ENCODER_CONFIG_REGISTRY, ENCODER_REGISTRY, EncoderConfig
from slices.encoders.registry import checked, make_config, unknown
from slices.heads import TASK_HEAD_REGISTRY, LossName, TaskHeadConfig, TaskType
from slices.ssl import SSLConfig
from slices.ssl.factory import CONFIG_REGISTRY, SSL_REGISTRY
from slices.training.adaptation.config import FineTuningConfig
from slices.training.compose import composed
from slices.training.data.config import DataConfig
from slices.training.optim import OptimizerConfig, SchedulerConfig, optimizer_config, scheduler_config
from slices.training.ranges import (
    CompileMode,
    LoggerName,
    OnNonfinite,
    named,
    require_at_least_one,
    require_seed,
)

T = TypeVar("T")


@dataclass(kw_only=True)
class NamedEncoder:
    """An encoder's registry name and its config."""

    name: str
    config: EncoderConfig

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> NamedEncoder:
        name = named(given, "encoder", ENCODER_REGISTRY)
        options = {key: value for key, value in given.items() if key != "name"}
        return cls(
            name=name, config=make_config(ENCODER_CONFIG_REGISTRY.find(name), options, f"encoder {name!r}")
        )

    def plain(self) -> dict[str, Any]:
        return {"name": self.name, **plain(self.config)}


def ssl_config(given: Mapping[str, Any]) -> SSLConfig:
    """``{name: mae, ...}`` as the objective's dataclass."""
    name = named(given, "ssl", SSL_REGISTRY)
    return make_config(CONFIG_REGISTRY.find(name), given, f"ssl {name!r}")


@dataclass(kw_only=True)
class TaskConfig:
    """What is predicted, and by which head.

    ``task_type``, ``n_classes`` and ``per_step`` not given are taken from the data. With ``per_step`` the
    encoder gives one embedding a step; without it a task with one label a step is asked at each prediction
    time of what the stay was until then. ``ordinal`` takes the classes of a multiclass task as ordered.
    ``loss`` is one that slices-heads has for the type (null: its first): ``focal_gamma`` goes with ``focal``,
    ``huber_delta`` with ``huber``, ``quantiles`` with ``quantile``. A survival task has ``n_classes``
    intervals (null: 10), the last hours of which are ``interval_ends``, by default quantiles of the hours to
    events of the training stays, and ``n_risks`` events that compete, taken from the data.

    ``also`` are further tasks learnt on the same encoder, by name, each with options of its own: ``weight``
    of its loss (1; that of the first task is 1), and those here but ``per_step``, which are the first task's
    where they are about the head, else from the data.
    """

    task_name: str = "in_hospital_mortality"
    task_type: TaskType | None = "binary"
    n_classes: int | None = None
    per_step: bool | None = False
    head_type: str = "mlp"
    hidden_dims: tuple[int, ...] = (64,)
    dropout: float = 0.1
    loss: LossName | None = None
    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9)
    focal_gamma: float | None = None
    huber_delta: float | None = None
    class_weight: Literal["balanced"] | tuple[float, ...] | None = None
    label_smoothing: float = 0.0
    interval_ends: tuple[float, ...] = ()
    n_risks: int | None = None
    also: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_intervals(self)
        self.others()
        if self.task_type in ("regression", "survival") and self.class_weight is not None:
            raise ValueError(f"class_weight: a {self.task_type} has no classes; leave it out")
        if self.per_step and TASK_HEAD_REGISTRY.find(self.head_type).pools_steps:
            raise ValueError(
                f"head_type={self.head_type} makes one prediction of all steps of a stay: use "
                "per_step=false, or head_type=mlp for one prediction a step"
            )

    def head(self, input_dim: int) -> TaskHeadConfig:
        """The head's own config, for embeddings ``input_dim`` wide."""
        assert self.task_type is not None  # filled in from the data by then
        return TaskHeadConfig(
            name=self.head_type,
            task_name=self.task_name,
            task_type=self.task_type,
            n_classes=self.n_classes,
            input_dim=input_dim,
            hidden_dims=self.hidden_dims,
            dropout=self.dropout,
            loss=self.loss,
            quantiles=self.quantiles,
            n_risks=self.n_risks or 1,
        )

    def others(self) -> dict[str, tuple[TaskConfig, float]]:
        """Of each further task its own config, and the weight of its loss."""
        return {name: _other_task(self, name, given) for name, given in self.also.items()}

    @property
    def keeps_steps(self) -> bool:
        """Does the head take one embedding a step, (B, T, H), from an encoder that does not pool?"""
        return bool(self.per_step) or TASK_HEAD_REGISTRY.find(self.head_type).pools_steps


@dataclass(kw_only=True)
class PretrainingConfig:
    """How long, in what portions, and how often a checkpoint is written.

    ``activation_checkpointing``: blocks of the encoder are computed twice, and need less memory. ``compile``:
    the objective becomes one program (``torch.compile``) in this mode; null: not at all. ``on_nonfinite``: a
    step whose loss or gradient is not finite ends the run, or is left out; with ``keep_bad_batch`` its batch
    is written, to be replayed.
    """

    max_epochs: int = 30
    batch_size: int = 64
    checkpoint_every_n_steps: int = 100
    activation_checkpointing: bool = False
    compile: CompileMode | None = None
    on_nonfinite: OnNonfinite = "stop"
    keep_bad_batch: bool = False

    def __post_init__(self) -> None:
        require_at_least_one(self, "max_epochs", "batch_size", "checkpoint_every_n_steps")


@dataclass(kw_only=True)
class WatchConfig:
    """How the embedding is watched while it is pretrained; see :class:`~slices.training.watching.Watch`.

    Attributes:
        every_n_steps: how often it is looked at, besides at the start and at the end; None: as often as costs
            about 2 % of the run, but not more than a hundred times.
        stays: validation stays to look at, at most.
        task: whose labels a probe and nearest neighbours are scored on; None: neither.
        labelled: training, and validation, stays with a label for these, at most.
        on_collapse: warn, or stop the run.
    """

    every_n_steps: int | None = None
    stays: int = 256
    task: str | None = None
    labelled: int = 500
    on_collapse: Literal["warn", "stop"] = "warn"

    def __post_init__(self) -> None:
        require_at_least_one(self, "every_n_steps", "labelled")
        if self.stays < 2:
            raise ValueError(f"watch.stays={self.stays}: must be at least 2")


@dataclass(kw_only=True)
class PrepareConfig:
    """Everything that ``configs/prepare.yaml`` says."""

    data: DataConfig
    overwrite: bool = False
    jobs: int = 1

    def __post_init__(self) -> None:
        require_at_least_one(self, "jobs")

    @classmethod
    def parse(cls, config: Mapping[str, Any] | DictConfig) -> PrepareConfig:
        """Raises ``ValueError`` or ``TypeError`` that names the key, the value and the remedy."""
        return parse_app(cls, config, "prepare")


@dataclass(kw_only=True)
class DescribeConfig:
    """Everything that ``configs/describe.yaml`` says. Of fewer than ``min_patients`` nothing is shown."""

    data: DataConfig
    folder: str = "outputs/describe"
    verify: bool = False
    min_patients: int = 10

    def __post_init__(self) -> None:
        require_at_least_one(self, "min_patients")

    @classmethod
    def parse(cls, config: Mapping[str, Any] | DictConfig) -> DescribeConfig:
        """Raises ``ValueError`` or ``TypeError`` that names the key, the value and the remedy."""
        return parse_app(cls, config, "describe")


@dataclass(kw_only=True)
class ReplayConfig:
    """Everything that ``configs/replay.yaml`` says."""

    run: str | None = None
    allow_other_data: bool = False
    checkpoint_path: str | None = None

    @classmethod
    def parse(cls, config: Mapping[str, Any] | DictConfig) -> ReplayConfig:
        """Raises ``ValueError`` or ``TypeError`` that names the key, the value and the remedy."""
        return parse_app(cls, config, "replay")


@dataclass(kw_only=True)
class PretrainConfig:
    """Everything that ``configs/pretrain.yaml`` says. The module reads the first four and the seed."""

    encoder: NamedEncoder
    ssl: SSLConfig
    optimizer: OptimizerConfig
    scheduler: SchedulerConfig | None = None
    seed: int = 0
    data: DataConfig | None = None
    labels: str | None = None
    watch: WatchConfig | None = None
    training: PretrainingConfig = field(default_factory=PretrainingConfig)
    trainer: dict[str, Any] = field(default_factory=dict)
    loggers: tuple[LoggerName, ...] = ()
    encoder_path: str | None = None
    resume: str | None = None

    def __post_init__(self) -> None:
        require_seed(self, "seed")
        check_trainer(self.trainer)

    @classmethod
    def parse(cls, config: Mapping[str, Any] | DictConfig) -> PretrainConfig:
        """Raises ``ValueError`` or ``TypeError`` that names the key, the value and the remedy."""
        given = composed(config, "pretrain")
        refuse_unknown(given, cls, "pretrain")
        for section in ("encoder", "ssl"):
            if not given.get(section):
                raise ValueError(f"pretrain: section {section!r} is missing")
        given |= {"encoder": NamedEncoder.parse(given["encoder"]), "ssl": ssl_config(given["ssl"])}
        given |= _shared_sections(given)
        return make_config(cls, given, "pretrain")


@dataclass(kw_only=True)
class FineTuneConfig:
    """Everything that ``configs/finetune.yaml`` says.

    ``encoder`` may be left out where a checkpoint says what it is.
    """

    encoder: NamedEncoder | None = None
    task: TaskConfig = field(default_factory=TaskConfig)
    training: FineTuningConfig = field(default_factory=FineTuningConfig)
    optimizer: OptimizerConfig = field(default_factory=lambda: optimizer_config({"name": "adamw"}))
    scheduler: SchedulerConfig | None = None
    seed: int = 0
    data: DataConfig | None = None
    trainer: dict[str, Any] = field(default_factory=dict)
    loggers: tuple[LoggerName, ...] = ()
    checkpoint_path: str | None = None
    resume: str | None = None

    def __post_init__(self) -> None:
        require_seed(self, "seed")
        check_trainer(self.trainer)

    @classmethod
    def parse(cls, config: Mapping[str, Any] | DictConfig) -> FineTuneConfig:
        """Raises ``ValueError`` or ``TypeError`` that names the key, the value and the remedy."""
        given = composed(config, "finetune")
        refuse_unknown(given, cls, "finetune")
        given["encoder"] = NamedEncoder.parse(given["encoder"]) if given.get("encoder") else None
        given |= _shared_sections(given)
        return make_config(cls, given, "finetune")


def _shared_sections(given: Mapping[str, Any]) -> dict[str, Any]:
    sections: dict[str, Any] = {"scheduler": scheduler_config(given.get("scheduler"))}
    if given.get("optimizer"):
        sections["optimizer"] = optimizer_config(given["optimizer"])
    elif "optimizer" in given:
        raise ValueError("section 'optimizer' is empty: give it a name, as in optimizer=adamw")
    return sections


def check_trainer(options: Mapping[str, Any]) -> None:
    """Raises ``ValueError`` for what is no option of Lightning's trainer, or ours to set, or out of range.

    ``TypeError`` for a value of another type than Lightning says.
    """
    hints = typing.get_type_hints(Trainer.__init__)
    allowed = hints.keys() - {"return", "callbacks", "logger", "plugins"}
    for name, value in options.items():
        if name not in allowed:
            raise ValueError(f"trainer: {unknown('option', name, allowed)}")
        checked(value, hints[name], f"trainer.{name}")
    for name in ("max_epochs", "accumulate_grad_batches"):  # Lightning lets 0 pass, and trains nothing
        if (value := options.get(name)) is not None and value < 1 and (name, value) != ("max_epochs", -1):
            raise ValueError(f"trainer.{name}={value}: allowed is 1 or more")
    for name in ("limit_train_batches", "max_steps"):
        if name in options and options[name] == 0:
            raise ValueError(f"trainer.{name}=0 trains nothing: leave it out")


def _other_task(first: TaskConfig, name: str, given: Any) -> tuple[TaskConfig, float]:
    where, options = f"task.also.{name}", dict(given or {})
    weight = options.pop("weight", 1.0)
    if not isinstance(weight, int | float) or not weight > 0:
        raise ValueError(f"{where}.weight={weight}: allowed is a number above 0")
    if {".", "/"} & set(name):
        raise ValueError(f"{where}: the name of a further task has no dot or slash; rename it in the data")
    if name == first.task_name:
        raise ValueError(f"{where}: that is the first task already; leave it out")
    if taken := sorted({"task_name", "per_step", "also"} & set(options)):
        raise ValueError(f"{where}: {', '.join(taken)} are the first task's; leave them out")
    of_first: dict[str, Any] = {
        key: getattr(first, key) for key in ("per_step", "head_type", "hidden_dims", "dropout")
    }
    options = {"task_name": name, "task_type": None, **of_first, **options}
    other: TaskConfig = make_config(TaskConfig, options, where)
    if other.keeps_steps != first.keeps_steps:
        raise ValueError(
            f"{where}.head_type={other.head_type}: the heads of one encoder all take what it pools, or all "
            f"take its steps, and head_type={first.head_type} does not do the same"
        )
    return other, float(weight)


def check_intervals(task: TaskConfig) -> None:
    """Raises ``ValueError`` for intervals of a task that has none, or that do not follow each other."""
    ends = task.interval_ends
    if ends and task.task_type not in (None, "survival"):
        raise ValueError(f"interval_ends={list(ends)}: only survival tasks have intervals; leave it out")
    if any(not low < high for low, high in pairwise((0.0, *ends))):
        raise ValueError(f"interval_ends={list(ends)}: allowed are positive numbers of hours, ascending")
    if ends and task.n_classes not in (None, len(ends)):
        raise ValueError(
            f"n_classes={task.n_classes}: interval_ends ends {len(ends)} intervals; leave one of them out"
        )


def parse_app(cls: type[T], config: Mapping[str, Any] | DictConfig, app: str) -> T:
    """The config of an app that has no section to be read in another way.

    Raises ``ValueError`` or ``TypeError`` that names the key, the value and the remedy.
    """
    given = composed(config, app)
    refuse_unknown(given, cls, app)
    return make_config(cls, given, app)


def refuse_unknown(given: Mapping[str, Any], cls: type, where: str) -> None:
    """Raises ``ValueError`` for a section that the dataclass does not have, with the nearest one."""
    allowed = [part.name for part in dataclasses.fields(cls)]
    for key in given:
        if key not in allowed:
            raise ValueError(f"{where}: {unknown('section', key, allowed)}")


def plain(config: Any) -> Any:
    """A dataclass as dicts, lists and numbers, as YAML, JSON and a safe checkpoint can hold."""
    if isinstance(config, NamedEncoder):
        return config.plain()
    if dataclasses.is_dataclass(config):
        return {part.name: plain(getattr(config, part.name)) for part in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {key: plain(value) for key, value in config.items()}
    if isinstance(config, tuple | list):
        return [plain(value) for value in config]
    return config
