"""The configs of the apps that use models: ``predict``, ``embed`` and ``export``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from omegaconf import DictConfig

from slices.encoders.config import PoolingName
from slices.training.compose import command
from slices.training.config import parse_app
from slices.training.data.config import DataConfig
from slices.training.ranges import require_at_least_one
from slices.training.serving.predicting import At


@dataclass(kw_only=True)
class PredictConfig:
    """Everything that ``configs/predict.yaml`` says.

    ``model``: one, or several of one task, whose mean is taken: files that fine-tuning wrote, or folders of
    runs. ``dataset``: a prepared dataset's folder, in place of ``data``. ``at``: hours since admission at
    which the input ends, or "labels": those of the data's labels; null: as in training. ``calibrate``:
    probabilities at the temperature that was chosen on validation stays. ``format``: "meds" for the files of
    meds-evaluation.
    """

    data: DataConfig
    model: str | tuple[str, ...] | None = None
    dataset: str | None = None
    at: At = None
    adapt_variables: bool = False
    calibrate: bool = True
    format: Literal["slices", "meds"] = "slices"
    device: str | None = None
    jobs: int = 1

    def __post_init__(self) -> None:
        require_at_least_one(self, "jobs")
        check_device(self.device)
        if self.at == ():
            raise ValueError("at=[]: give an hour, labels, or null")

    @classmethod
    def parse(cls, config: Mapping[str, Any] | DictConfig) -> PredictConfig:
        """Raises ``ValueError`` or ``TypeError`` that names the key, the value and the remedy."""
        return parse_app(cls, config, "predict")

    @property
    def models(self) -> tuple[str, ...]:
        """Those given. Raises ``ValueError`` where there are none."""
        if not self.model:
            raise ValueError(
                f"model is missing: give model=outputs/finetune/<time>, which `{command('finetune')}` wrote"
            )
        return (self.model,) if isinstance(self.model, str) else self.model


@dataclass(kw_only=True)
class EmbedConfig:
    """Everything that ``configs/embed.yaml`` says.

    ``model``: the file of a pretrained encoder or of a fine-tuned model. ``pooling``: another than its own;
    ``per_step``: an embedding of every step instead. Otherwise as ``PredictConfig``.
    """

    data: DataConfig
    model: str = "outputs/encoder.pt"
    dataset: str | None = None
    at: tuple[float, ...] | None = None
    per_step: bool = False
    pooling: PoolingName | None = None
    adapt_variables: bool = False
    device: str | None = None
    jobs: int = 1

    def __post_init__(self) -> None:
        require_at_least_one(self, "jobs")
        check_device(self.device)
        if self.per_step and self.pooling not in (None, "none"):
            raise ValueError(f"pooling={self.pooling}: with per_step=true steps are not pooled; leave it out")
        if self.pooling == "none" and not self.per_step:
            raise ValueError("pooling=none gives an embedding a step: use per_step=true")

    @classmethod
    def parse(cls, config: Mapping[str, Any] | DictConfig) -> EmbedConfig:
        """Raises ``ValueError`` or ``TypeError`` that names the key, the value and the remedy."""
        return parse_app(cls, config, "embed")


@dataclass(kw_only=True)
class ExportConfig:
    """Everything that ``configs/export.yaml`` says.

    ``n_steps``: time steps of the exported graph; null: those of the model's grid, which measured timestamps
    do not have. ``file``: where it goes; null: beside the model.
    """

    model: str | None = None
    n_steps: int | None = None
    file: str | None = None

    def __post_init__(self) -> None:
        require_at_least_one(self, "n_steps")

    @classmethod
    def parse(cls, config: Mapping[str, Any] | DictConfig) -> ExportConfig:
        """Raises ``ValueError`` or ``TypeError`` that names the key, the value and the remedy."""
        return parse_app(cls, config, "export")


def check_device(device: str | None) -> None:
    """Raises ``ValueError`` for what is no device."""
    try:
        torch.device(device or "cpu")
    except RuntimeError as error:
        raise ValueError(f"device={device}: allowed is cpu, cuda, cuda:1 ... or null") from error


def device_of(device: str | None) -> torch.device:
    """The device asked for; where none is, a GPU if there is one."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
