"""What the evaluation app is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from omegaconf import DictConfig

from slices.heads import TaskType
from slices.training.config import parse_app
from slices.training.evaluation.selection import ThresholdRule
from slices.training.ranges import require_at_least_one, require_seed


@dataclass(kw_only=True)
class EvaluateConfig:
    """Everything that ``configs/evaluate.yaml`` says.

    ``predictions``: files of predictions or folders that hold ``predictions.parquet``, listed or by the name
    of the model. ``task_name`` chooses among those of files that have several. ``task_type`` is for files
    that do not say it. ``groups``: a prepared dataset, whose statics make groups of stays, or a table with
    ``stay_id`` and a column a grouping; ``bands`` cut numbers, and other columns of more than 20 values make
    no groups. ``hours`` cut prediction times. Groups of fewer than ``min_patients`` are not shown.
    ``threshold``: the rule by which it is chosen on the validation rows.
    ``reference``: the model that all others are compared with; without it each with each.
    """

    predictions: tuple[str, ...] | dict[str, str] | None = None
    task_name: str | None = None
    task_type: TaskType | None = None
    groups: str | None = None
    bands: dict[str, tuple[float, ...]] = field(default_factory=lambda: {"age": (45.0, 65.0, 80.0)})
    hours: tuple[float, ...] = (12.0, 24.0, 48.0)
    min_patients: int = 10
    threshold: ThresholdRule = "youden"
    specificity: float = 0.9
    net_benefit_at: tuple[float, ...] = (0.1, 0.2)
    reference: str | None = None
    n_resamples: int = 2000
    level: float = 0.95
    seed: int = 0
    folder: str = "outputs/evaluate"

    def __post_init__(self) -> None:
        require_at_least_one(self, "min_patients", "n_resamples")
        require_seed(self, "seed")
        for name, edges in {"hours": self.hours, **self.bands}.items():
            if not edges or any(low >= high for low, high in pairwise(edges)):
                raise ValueError(f"{name}: {list(edges)} are no ascending edges")
        shares = {"specificity": (self.specificity,), "level": (self.level,)}
        for name, given in (shares | {"net_benefit_at": self.net_benefit_at}).items():
            if wrong := [value for value in given if not 0 < value < 1]:
                raise ValueError(f"{name}: {wrong[0]:g} is not between 0 and 1")

    @classmethod
    def parse(cls, config: Mapping[str, Any] | DictConfig) -> EvaluateConfig:
        """Raises ``ValueError`` or ``TypeError`` that names the key, the value and the remedy."""
        return parse_app(cls, config, "evaluate")
