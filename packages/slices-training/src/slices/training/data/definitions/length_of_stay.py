"""How long the stay will have lasted in all."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import polars as pl

from slices.training.data.definitions.base import Candidates, Definition, Records, register_definition
from slices.training.data.definitions.steps import one_step, whole_minutes
from slices.training.data.schema import TaskInfo

DAY = 24.0


@register_definition("length_of_stay")
@dataclass(frozen=True, kw_only=True)
class LengthOfStay(Definition):
    """Days from admission to the end of the stay in the unit (``where="icu"``) or in the hospital.

    One label at ``at`` hours, for stays longer than that. With ``edges``, in days, it is a class, an edge
    itself belonging to the class above. Where a source's records are cut before the stay ends, only the
    days in the hospital can be known.
    """

    where: Literal["icu", "hospital"] = "icu"
    at: float = 24.0
    edges: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        whole_minutes(self.at, "at")
        if any(not low < high for low, high in pairwise((0.0, *self.edges))):
            raise ValueError(f"edges={list(self.edges)}: allowed are positive numbers of days, ascending")

    @property
    def task(self) -> TaskInfo:
        if not self.edges:
            return TaskInfo(name=self.name, task_type="regression")
        between = [f"{low:g} to {high:g} days" for low, high in pairwise(self.edges)]
        classes = (f"under {self.edges[0]:g} days", *between, f"{self.edges[-1]:g} days or more")
        return TaskInfo(name=self.name, task_type="multiclass", classes=classes)

    @property
    def outcomes(self) -> tuple[str, ...]:
        return ("hospital_hours",) if self.where == "hospital" else ()

    @property
    def whole_stays(self) -> bool:
        return self.where == "icu"

    def candidates(self, records: Records) -> Candidates:
        table, hours = one_step(records.stays, self.at), pl.col("length_hours").cast(pl.Float64)
        if self.where == "hospital":
            outcomes = records.outcomes.select("stay_id", "hospital_hours")
            table, hours = table.join(outcomes, on="stay_id", how="left"), pl.col("hospital_hours")
        rules = {
            "too_short": (f"a stay that ends by {self.at:g} h", pl.col("length_hours") <= self.at),
            "unknown": ("an unknown length of stay", hours.is_null()),
            "ended_before": (f"a length of stay of {self.at:g} h or less", hours <= self.at),
        }
        value = hours / DAY
        if self.edges:
            value = pl.sum_horizontal((hours >= edge * DAY).cast(pl.Float64) for edge in self.edges)
        return Candidates(table.with_columns(value=value), rules)
