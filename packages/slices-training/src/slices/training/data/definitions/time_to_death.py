"""How long until the patient dies in the hospital, or leaves it alive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

from slices.training.data.definitions.base import Candidates, Definition, Records, register_definition
from slices.training.data.definitions.steps import one_step, whole_minutes
from slices.training.data.schema import TaskInfo


@register_definition("time_to_death")
@dataclass(frozen=True, kw_only=True)
class TimeToDeath(Definition):
    """Hours from ``at`` hours after admission to death in the hospital, and whether it came.

    A patient who is discharged alive cannot die in the hospital any more: discharge is an event that
    competes (``discharge="competes"``). With ``"censors"`` it only ends the watching, as if those who stay
    were like those who left, which they are not (Wolbers et al. 2009, "Prognostic models with competing
    risks"). Where the source does not know when a patient died, it is the end of the days in the hospital.
    A stay whose outcome is unknown has no label, nor has one that had ended by ``at`` hours.
    """

    at: float = 24.0
    discharge: Literal["competes", "censors"] = "competes"

    def __post_init__(self) -> None:
        whole_minutes(self.at, "at")

    @property
    def task(self) -> TaskInfo:
        classes = ("death", "discharge alive") if self.discharge == "competes" else ("death",)
        return TaskInfo(name=self.name, task_type="survival", classes=classes)

    @property
    def outcomes(self) -> tuple[str, ...]:
        return ("died_in_hospital", "hospital_hours")

    def candidates(self, records: Records) -> Candidates:
        outcomes = records.outcomes
        if "death_hours" not in outcomes.columns:
            outcomes = outcomes.with_columns(death_hours=pl.lit(None, pl.Float64))
        columns = ["stay_id", *self.outcomes, "death_hours"]
        table = one_step(records.stays, self.at).join(outcomes.select(columns), on="stay_id", how="left")
        died, left = pl.col("died_in_hospital"), pl.col("hospital_hours")
        table = table.with_columns(
            end=pl.when(died).then(pl.min_horizontal("death_hours", left)).otherwise(left),
            event=pl.when(died).then(1).otherwise(2 if self.discharge == "competes" else 0),
        )
        end = pl.col("end")
        rules = {
            "too_short": (f"a stay that ends by {self.at:g} h", pl.col("length_hours") <= self.at),
            "unknown": ("an unknown end of the days in the hospital", died.is_null() | end.is_null()),
            "ended_before": (f"a death or discharge by {self.at:g} h", end <= self.at),
        }
        return Candidates(table.with_columns(value=end - self.at), rules)
