"""What the apps ``baseline`` and ``blend`` are asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from omegaconf import DictConfig

from slices.heads import TaskType
from slices.training.config import TaskConfig, parse_app
from slices.training.data.config import DataConfig
from slices.training.ranges import require_seed

BaselineName = Literal["lightgbm", "logistic_regression"]
WeightRule = Literal["validation", "equal"]


@dataclass(kw_only=True)
class BaselineConfig:
    """Everything that ``configs/baseline.yaml`` says.

    ``tune``: settings of the trees by cross-validation inside the training split; without it those that were
    chosen once, on PhysioNet 2012. (The penalty of the linear model always is chosen in this way.)
    """

    data: DataConfig
    task: TaskConfig = field(default_factory=TaskConfig)
    model: BaselineName = "lightgbm"
    tune: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        require_seed(self, "seed")

    @classmethod
    def parse(cls, config: Mapping[str, Any] | DictConfig) -> BaselineConfig:
        """Raises ``ValueError`` or ``TypeError`` that names the key, the value and the remedy."""
        return parse_app(cls, config, "baseline")


@dataclass(kw_only=True)
class BlendConfig:
    """Everything that ``configs/blend.yaml`` says.

    ``predictions``, ``task_name`` and ``task_type`` are as the evaluation app has them. ``weights``: by the
    rows of the models' validation splits, or ``equal``.
    """

    predictions: tuple[str, ...] | dict[str, str] | None = None
    task_name: str | None = None
    task_type: TaskType | None = None
    weights: WeightRule = "validation"
    name: str = "blend"

    @classmethod
    def parse(cls, config: Mapping[str, Any] | DictConfig) -> BlendConfig:
        """Raises ``ValueError`` or ``TypeError`` that names the key, the value and the remedy."""
        return parse_app(cls, config, "blend")
