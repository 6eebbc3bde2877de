"""What an evaluation consists of."""

from __future__ import annotations

from typing import NamedTuple

from slices.heads import TaskType
from slices.training.evaluation.bootstrap import Predictions
from slices.training.evaluation.report.choices import Choice
from slices.training.evaluation.weighted import Array

Draws = dict[tuple[str, str], dict[str, Array]]
"""By part (grouping, group) and metric: the value, then that of each resample, ``(1 + R,)``."""


class Estimate(NamedTuple):
    """A metric of one model in one group of test rows (``all``: every row)."""

    model: str
    grouping: str
    group: str
    metric: str
    estimate: float
    low: float
    high: float
    rows: int
    patients: int


class Comparison(NamedTuple):
    """A metric of one model less that of another on the same rows; ``p_holm`` counts all comparisons.

    ``p_delong`` is another test of AUROC, for a check: None for others, and where patients have several rows.
    """

    metric: str
    model: str
    other: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    p_delong: float | None


class Evaluation(NamedTuple):
    """What the app found.

    ``gaps`` are the largest differences between groups of one grouping; ``until`` the hours of a survival
    task's incidences.
    """

    task: str
    task_type: TaskType
    rows: int
    patients: int
    estimates: list[Estimate]
    comparisons: list[Comparison]
    gaps: list[Estimate]
    choices: dict[str, Choice]
    tested: dict[str, Predictions]
    notes: list[str]
    until: Array | None = None
