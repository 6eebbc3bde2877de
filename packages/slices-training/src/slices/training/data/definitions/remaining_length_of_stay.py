"""How much longer the stay will last, asked again and again."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from slices.training.data.definitions.base import Candidates, Definition, Records, register_definition
from slices.training.data.definitions.steps import every_step, minutes, whole_minutes
from slices.training.data.schema import TaskInfo


@register_definition("remaining_length_of_stay")
@dataclass(frozen=True, kw_only=True)
class RemainingLengthOfStay(Definition):
    """Hours until the end of the stay, every ``every`` hours until then, at most ``cap``.

    Where a source's records are cut before the stay ends, they would be the hours until the cut: there is no
    such task.
    """

    every: float = 1.0
    cap: float | None = None

    def __post_init__(self) -> None:
        whole_minutes(self.every, "every")
        if self.cap is not None and not self.cap > 0:
            raise ValueError(f"cap={self.cap}: allowed is a positive number of hours, or null")

    @property
    def task(self) -> TaskInfo:
        return TaskInfo(name=self.name, task_type="regression", per_step=True)

    @property
    def whole_stays(self) -> bool:
        return True

    def candidates(self, records: Records) -> Candidates:
        every = whole_minutes(self.every, "every")
        table = every_step(records.stays, every, (minutes(pl.col("length_hours")) / every).ceil() - 1)
        remaining = pl.col("length_hours").cast(pl.Float64) - pl.col("prediction_time")
        rules = {
            "too_short": (f"a stay that ends by {self.every:g} h", remaining <= 0),
            "unknown": ("a stay of unknown length", remaining.is_null()),
        }
        return Candidates(table.with_columns(value=remaining.clip(upper_bound=self.cap)), rules)
