"""What a report says, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass

from slices.training.data.schema import TaskInfo, Variable
from slices.training.data.store import Manifest

QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
QUANTILE_NAMES = tuple("median" if q == 0.5 else f"{q:.0%}" for q in QUANTILES)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How often a variable is measured; what is None could not be known, or means nothing for a static one.

    ``share`` of the stays have it, ``per_stay`` times as a median of these, ``per_hour`` of their hours.
    ``gap`` is the median time between two measurements, ``cells`` the share of all hours of all stays in
    which there is one.
    """

    events: int
    stays: int
    share: float
    per_stay: float | None
    per_hour: float | None
    gap: float | None
    cells: float | None


@dataclass(frozen=True, kw_only=True)
class Values:
    """What a variable is like where it is measured.

    ``at_low`` and ``at_high`` are the shares of values at the ends of the plausible range. ``spread``, the
    interquartile range / 1.349, and ``set_medians`` are on the variable's own scale (``transform``), and
    ``histogram`` counts values from the first to the last of ``quantiles`` on it.
    """

    quantiles: tuple[float, ...]
    at_low: float
    at_high: float
    is_constant: bool
    is_flag: bool  # nothing but 0 and 1
    spread: float
    set_medians: dict[str, float]
    histogram: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class VariableReport:
    """One variable; one that is never measured has no values."""

    variable: Variable
    sampling: Sampling
    values: Values | None


@dataclass(frozen=True, kw_only=True)
class LabelSummary:
    """The labels of some stays. ``numbers``: the share of each class, or mean and quantiles of a number."""

    stays: int
    labels: int
    numbers: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class TaskReport:
    """The labels of a task, of all stays and by set; and how many stays ever have each class."""

    task: TaskInfo
    first_time: float | None
    last_time: float | None
    overall: LabelSummary
    by_set: dict[str, LabelSummary]
    stays_with: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Report:
    """A dataset. ``sampled`` is the number of stays from which quantiles were taken, if not from all.

    Of fewer stays than ``min_patients`` neither their number nor one of theirs is to be shown.
    """

    directory: str
    described: str
    manifest: Manifest
    sets: dict[str, int]
    lengths: tuple[float, ...]
    events_per_stay: tuple[float, ...]
    without_events: int
    sampled: int | None
    min_patients: int
    variables: tuple[VariableReport, ...]
    tasks: tuple[TaskReport, ...]
    warnings: tuple[str, ...]
