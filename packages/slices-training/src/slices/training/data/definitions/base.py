"""What a task definition is, and the registry third parties add theirs to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeVar

import polars as pl

from slices.encoders.registry import Registry
from slices.training.data.schema import OUTCOME_SCHEMA, TaskInfo, Variable

DEFINITION_REGISTRY: Registry[type[Definition]] = Registry("task definition", "slices.definitions")

__all__ = [
    "DEFINITION_REGISTRY",
    "OUTCOME_SCHEMA",
    "Candidates",
    "Definition",
    "Records",
    "register_definition",
]

D = TypeVar("D", bound="type[Definition]")


class Records(NamedTuple):
    """What labels are made of: stays with their events and outcomes, all times in hours since admission.

    ``outcomes`` has one row a stay in columns of ``OUTCOME_SCHEMA``, those that the source knows; null is
    unknown. ``hospital_hours`` is the time of discharge from hospital.
    """

    stays: pl.DataFrame
    events: pl.DataFrame
    outcomes: pl.DataFrame
    variables: Sequence[Variable]


class Candidates(NamedTuple):
    """Labels that may be given, and the rules by which one is not.

    ``table`` has ``stay_id``, ``set``, ``prediction_time``, ``value``, and what else the rules read; where
    ``value`` is a time in survival, also ``event``. Rules
    are those of ``sift``, their names and descriptions without the task's; one must catch null values.
    """

    table: pl.DataFrame
    rules: dict[str, tuple[str, pl.Expr]]


@dataclass(frozen=True, kw_only=True)
class Definition(ABC):
    """A task by its name, and how its labels come from the records."""

    kind: ClassVar[str] = ""
    name: str

    @property
    @abstractmethod
    def task(self) -> TaskInfo:
        """What the labels are."""

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The columns of the table of outcomes without which there is no label."""
        return ()

    @property
    def variables(self) -> dict[str, str]:
        """The variables without which there is no label, each with the unit that it must have."""
        return {}

    @property
    def whole_stays(self) -> bool:
        """Whether the labels need stays that are recorded to their end."""
        return False

    @abstractmethod
    def candidates(self, records: Records) -> Candidates:
        """The labels of these stays, one row each, and which of them do not count."""


def register_definition(kind: str) -> Callable[[D], D]:
    """Class decorator: register a definition under the kind that configs name."""

    def register(cls: D) -> D:
        cls.kind = kind
        DEFINITION_REGISTRY[kind] = cls
        return cls

    return register
