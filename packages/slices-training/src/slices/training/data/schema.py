"""What a dataset is made of: variables, tasks, and the tables a source hands over."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import polars as pl

from slices.encoders.registry import make_config

TaskType = Literal["binary", "multiclass", "multilabel", "regression", "survival"]

STAY_SCHEMA = pl.Schema(
    {"stay_id": pl.Int64, "patient_id": pl.Int64, "set": pl.String, "length_hours": pl.Float32}
)
EVENT_SCHEMA = pl.Schema({"stay_id": pl.Int64, "time": pl.Float32, "variable": pl.Int16, "value": pl.Float64})
LABEL_SCHEMA = pl.Schema(
    {
        "task": pl.String,
        "stay_id": pl.Int64,
        "prediction_time": pl.Float32,
        "column": pl.Int16,
        "value": pl.Float64,
    }
)
OUTCOME_SCHEMA = pl.Schema(
    {
        "stay_id": pl.Int64,
        "died_in_icu": pl.Boolean,
        "died_in_hospital": pl.Boolean,
        "death_hours": pl.Float64,
        "hospital_hours": pl.Float64,
    }
)


@dataclass(frozen=True, kw_only=True)
class Repair:
    """A mix-up of units that can be told: values from ``low`` to ``high`` become ``value * factor + offset``.

    ``rule`` is the name under which repairs are counted.
    """

    rule: str
    description: str
    low: float
    high: float
    factor: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Variable:
    """One variable: its unit, the range a value can plausibly have, and how it is scaled.

    ``transform`` "log" is for heavy tails; a ``static`` variable is measured once, at time 0.
    ``aggregate`` says what several values in one cell of a batch become: with "value" what
    ``data.aggregate`` says (their mean, the last ...), with "sum" their sum, as it must be for amounts
    such as the urine since the last charting (a rate in mL/h is a "value"). Values outside the range are
    put right by the first of ``repairs`` that fits, else dropped, or with ``outside`` "clip" moved to its
    nearest end; all of it is counted. No repair may touch a plausible value.
    """

    name: str
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    transform: Literal["identity", "log"] = "identity"
    static: bool = False
    aggregate: Literal["value", "sum"] = "value"
    outside: Literal["drop", "clip"] = "drop"
    repairs: tuple[Repair, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError(f"variable {self.name!r}: a variable needs a name")
        for field, allowed in _CHOICES.items():
            if (given := getattr(self, field)) not in allowed:
                raise ValueError(
                    f"variable {self.name!r}: {field}={given!r}: allowed is {' or '.join(allowed)}"
                )
        if not self.low <= self.high:
            raise ValueError(f"variable {self.name!r}: low={self.low} must not be above high={self.high}")
        for repair in self.repairs:
            if repair.low <= self.high and self.low <= repair.high:
                raise ValueError(
                    f"variable {self.name!r}: the repair {repair.rule!r} of values from {repair.low} to "
                    f"{repair.high} would change plausible ones ({self.low} to {self.high})"
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which knows no infinity: an open end is None."""
        plain = dataclasses.asdict(self)
        return plain | {end: plain[end] if math.isfinite(plain[end]) else None for end in ("low", "high")}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Variable:
        """Raises ``ValueError`` or ``TypeError`` for what describes no variable."""
        return make_config(cls, {key: value for key, value in plain.items() if value is not None}, "variable")


_CHOICES = {"transform": ("identity", "log"), "aggregate": ("value", "sum"), "outside": ("drop", "clip")}


@dataclass(frozen=True, kw_only=True)
class TaskInfo:
    """One task: its type (never guessed from its width), its classes, and one label a stay or a step.

    Of a survival task ``classes`` are the events that compete, and a label is two numbers: hours from the
    prediction time, and what happened then, 1 for the first event, or 0 where it was not watched any longer.
    """

    name: str
    task_type: TaskType
    classes: tuple[str, ...] = ()
    per_step: bool = False

    def __post_init__(self) -> None:
        if self.task_type == "regression" and self.classes:
            raise ValueError(f"task {self.name!r}: a regression has no classes, got {self.classes}")
        if str(self.task_type) == "ordinal":
            raise ValueError(
                f"task {self.name!r}: task_type={self.task_type} says how a model takes labels; those of a "
                "dataset are binary, multiclass, multilabel, regression or survival"
            )
        if self.task_type == "binary" and len(self.classes) != 2:
            raise ValueError(f"task {self.name!r}: a binary task has 2 classes, got {self.classes}")
        if self.task_type in ("multiclass", "multilabel", "survival") and not self.classes:
            what = "events" if self.task_type == "survival" else "classes"
            raise ValueError(
                f"task {self.name!r}: a {self.task_type} task needs the names of its {what} (classes=...)"
            )

    @property
    def n_classes(self) -> int | None:
        """How many classes there are; None for a regression, and for survival."""
        return None if self.task_type == "survival" else len(self.classes) or None

    @property
    def n_risks(self) -> int | None:
        """How many events compete in a survival task; None for others."""
        return len(self.classes) if self.task_type == "survival" else None

    @property
    def width(self) -> int:
        """Numbers in one label: one a class in a multilabel task, time and event in survival, else one."""
        return {"multilabel": len(self.classes), "survival": 2}.get(self.task_type, 1)


class Chunk(NamedTuple):
    """Some stays with all that belongs to them, as polars tables of the schemas above.

    Events hold the position of their variable in the source's list, and hours since admission.
    Labels hold the class (or the number, for a regression); ``column`` is the class in a multilabel
    task, 0 for the time and 1 for the event in survival, and 0 otherwise. ``outcomes``, of which task
    definitions make labels, has a row a stay in columns of ``OUTCOME_SCHEMA``, those that the source knows;
    null is unknown. ``known_after`` is the source's where it is None: a pool gives that of the member.
    """

    stays: pl.DataFrame
    events: pl.DataFrame
    labels: pl.DataFrame
    outcomes: pl.DataFrame | None = None
    known_after: float | None = None


class Tally:
    """What was dropped or repaired on the way in: by rule, and in each set of stays.

    >>> tally = Tally()
    >>> tally.add("bad_time", "time is not HH:MM", {"a": 3, "b": 0})
    >>> tally.add("bad_time", "time is not HH:MM", {"b": 2})
    >>> tally.rules["bad_time"]
    {'description': 'time is not HH:MM', 'count': 5, 'by_set': {'a': 3, 'b': 2}}
    """

    def __init__(self) -> None:
        self.rules: dict[str, dict[str, Any]] = {}

    def add(self, rule: str, description: str, by_set: dict[str, int]) -> None:
        """Count what a rule did, set by set."""
        if not any(by_set.values()):
            return
        entry = self.rules.setdefault(rule, {"description": description, "count": 0, "by_set": {}})
        for name, count in by_set.items():
            entry["count"] += count
            if count:
                entry["by_set"][name] = entry["by_set"].get(name, 0) + count
