"""Acute kidney injury in the hours to come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from slices.training.data.definitions.base import Candidates, Definition, Records, register_definition
from slices.training.data.definitions.kdigo import creatinine_verdicts, urine_verdicts
from slices.training.data.definitions.measured import SPAN, count_between, first_of_each, measured
from slices.training.data.definitions.steps import every_step, minutes, whole_minutes
from slices.training.data.schema import TaskInfo


@register_definition("kdigo_aki")
@dataclass(frozen=True, kw_only=True)
class KdigoAKI(Definition):
    """Acute kidney injury of ``stage`` or more by KDIGO 2012 within the next ``within`` hours.

    One label every ``every`` hours, as long as ``within`` hours of the stay remain. What the label at
    prediction time t is made of:

    - each creatinine and each charting of urine gives a verdict at its own minute (see ``kdigo.py``) by
      itself and by what was measured before it: for creatinine the lowest of the last 7 days, for urine the
      output of the last 6 to 24 hours and the stay's first weight, from when that is known;
    - the label is 1 if a verdict **after** t, up to and including t + ``within``, is ``stage`` or more, and 0
      if there are verdicts and none is. Without a verdict in these hours that can tell there is no label:
      what is measured up to t alone decides nothing, and nothing after t + ``within`` matters;
    - a verdict at or before t says only whether the injury has begun: with ``until_onset`` there is no label
      from then on, so that what is asked for is the onset and not what is plain to see.

    An encoder may see what was measured up to t. A creatinine at t or before can serve both: it is what a
    later one is compared with. ``urine=null`` leaves the criterion of urine out, and needs no weight.
    """

    stage: int = 1
    within: float = 6.0
    every: float = 1.0
    until_onset: bool = True
    crea: str = "crea"
    urine: str | None = "urine"
    weight: str = "weight"

    def __post_init__(self) -> None:
        if self.stage not in (1, 2, 3):
            raise ValueError(f"stage={self.stage}: allowed is 1, 2 or 3")
        whole_minutes(self.within, "within")
        whole_minutes(self.every, "every")

    @property
    def task(self) -> TaskInfo:
        classes = (f"below stage {self.stage}", f"stage {self.stage} or more")
        return TaskInfo(name=self.name, task_type="binary", classes=classes, per_step=True)

    @property
    def variables(self) -> dict[str, str]:
        return {self.crea: "mg/dL"} | ({self.urine: "mL", self.weight: "kg"} if self.urine else {})

    def candidates(self, records: Records) -> Candidates:
        verdicts, stage = self._verdicts(records), pl.col("stage")
        injured = verdicts.filter(stage >= self.stage)
        telling = verdicts.filter((stage >= self.stage) | (pl.col("knows") >= self.stage))
        every, within = whole_minutes(self.every, "every"), whole_minutes(self.within, "within")
        end = minutes(pl.col("length_hours")).floor()
        table = every_step(records.stays.with_row_index("row"), every, (end - within) // every)
        row, now = table["row"].to_numpy().astype(np.int64), table["minute"].to_numpy()
        before = count_between(injured, row, np.full_like(now, -SPAN // 2), now)
        n_injured, n_telling = (count_between(those, row, now, now + within) for those in (injured, telling))
        table = table.with_columns(
            begun=pl.Series(before > 0), injured=pl.Series(n_injured > 0), told=pl.Series(n_telling > 0)
        )
        shortest = self.every + self.within
        rules = {
            "too_short": (f"a stay that ends before {shortest:g} h", pl.col("minute") + within > end),
            "begun": ("a time at which it has begun", pl.col("begun") & self.until_onset),
            "unknown": (f"a time with nothing to tell in the next {self.within:g} h", ~pl.col("told")),
        }
        return Candidates(table.with_columns(value=pl.col("injured").cast(pl.Float64)), rules)

    def _verdicts(self, records: Records) -> pl.DataFrame:
        """All verdicts of the stays, in no order."""
        mean, value = pl.col("value").mean(), pl.col("value")
        verdicts = creatinine_verdicts(measured(records, self.crea, mean))
        if self.urine is None:
            return verdicts
        weight = first_of_each(measured(records, self.weight, mean))
        return pl.concat([verdicts, urine_verdicts(measured(records, self.urine, value.sum()), weight)])
