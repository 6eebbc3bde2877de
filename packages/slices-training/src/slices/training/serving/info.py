"""What a model's file says beside its weights: the task, the view of a stay, what was chosen, provenance."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from slices.training.data.samples import WindowConfig
from slices.training.data.schema import Variable
from slices.training.data.views import Aggregate


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """How stays become tensors, as ``DataConfig`` says it."""

    resolution: float | Literal["timestamps"]
    horizon: float
    window: WindowConfig | None = None
    max_steps: int | None = None
    aggregate: Aggregate = "mean"

    def __str__(self) -> str:
        """In people's words.

        >>> print(ViewConfig(resolution=2.0, horizon=48.0, window=WindowConfig(length=24.0)))
        the last 24 hours until hour 48 at most, in bins of 2 h (mean)
        """
        when = "from admission" if self.window is None else f"the last {self.window.length:g} hours"
        how = f"in bins of {self.resolution:g} h ({self.aggregate})"
        if isinstance(self.resolution, str):
            how = f"by {self.resolution}" + (f", {self.max_steps:,} at most" if self.max_steps else "")
        return f"{when} until hour {self.horizon:g} at most, {how}"


@dataclass(frozen=True, kw_only=True)
class ModelTask:
    """What is predicted, and when.

    ``classes``: the names of classes or labels, where there are any. ``per_step``: one prediction a step.
    ``predict_at``: the hour since admission of all training labels; None where they have several.
    ``interval_ends``: of a survival task, hours after the prediction time.
    """

    classes: tuple[str, ...] = ()
    per_step: bool = False
    predict_at: float | None = None
    interval_ends: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Everything that a model's file says, encoder and head apart.

    Attributes:
        name: encoder and objective, as in prediction files.
        task: what is predicted; its name and type are in the head's config.
        variables: the D columns in order, as ``Variable.to_dict`` gives them.
        view: how a stay is cut.
        temperature: that logits are divided by; None: not chosen.
        thresholds: of the probabilities before the temperature, one a label (one, of a binary task).
        threshold_rule: how those were chosen, on validation rows alone.
        notes: why something was not chosen.
        data: fingerprint of the data and its split.
        versions: of the packages.

    Raises:
        ValueError, TypeError: a temperature or threshold that cannot be one, or a variable.
    """

    name: str
    task: ModelTask
    variables: tuple[dict[str, Any], ...]
    view: ViewConfig
    temperature: float | None = None
    thresholds: tuple[float | None, ...] = ()
    threshold_rule: str = "youden"
    notes: tuple[str, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.temperature is not None and not self.temperature > 0:
            raise ValueError(f"temperature={self.temperature}: allowed is above 0, or null")
        for threshold in self.thresholds:
            if threshold is not None and not 0 <= threshold <= 1:
                raise ValueError(f"thresholds={self.thresholds}: allowed is 0 to 1, or null")
        assert self.columns is not None  # each is checked as a Variable

    @cached_property
    def columns(self) -> tuple[Variable, ...]:
        """The variables."""
        return tuple(Variable.from_dict(variable) for variable in self.variables)

    @property
    def static_columns(self) -> tuple[int, ...]:
        """The columns that are observed at the first real step only."""
        return tuple(i for i, variable in enumerate(self.columns) if variable.static)
