"""Death before leaving intensive care, or the hospital."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

from slices.training.data.definitions.base import Candidates, Definition, Records, register_definition
from slices.training.data.definitions.steps import one_step, whole_minutes
from slices.training.data.schema import TaskInfo


@register_definition("mortality")
@dataclass(frozen=True, kw_only=True)
class Mortality(Definition):
    """Did the patient die before leaving the unit (``where="icu"``) or the hospital (``"hospital"``)?

    One label a stay at ``at`` hours, for stays longer than that, in which no death is recorded up to then.
    A stay whose outcome is unknown has none.
    """

    where: Literal["icu", "hospital"] = "icu"
    at: float = 24.0

    def __post_init__(self) -> None:
        whole_minutes(self.at, "at")

    @property
    def task(self) -> TaskInfo:
        return TaskInfo(name=self.name, task_type="binary", classes=("survived", "died"))

    @property
    def outcomes(self) -> tuple[str, ...]:
        return (f"died_in_{self.where}",)

    def candidates(self, records: Records) -> Candidates:
        """The time of death, where the source has it, only tells who was dead at ``at`` hours."""
        outcomes = records.outcomes
        if "death_hours" not in outcomes.columns:
            outcomes = outcomes.with_columns(death_hours=pl.lit(None, pl.Float64))
        columns = ["stay_id", self.outcomes[0], "death_hours"]
        table = one_step(records.stays, self.at).join(outcomes.select(columns), on="stay_id", how="left")
        died = pl.col(self.outcomes[0])
        rules = {
            "too_short": (f"a stay that ends by {self.at:g} h", pl.col("length_hours") <= self.at),
            "died_before": (f"a death by {self.at:g} h", pl.col("death_hours") <= self.at),
            "unknown": (f"whether the patient died in {self.where} is unknown", died.is_null()),
        }
        return Candidates(table.with_columns(value=died.cast(pl.Float64)), rules)
