"""Organ failures of the second day, as far as the challenge's measurements tell."""

from __future__ import annotations

import polars as pl

from .tasks import label_table
from .variables import POSITION

DAY = 24.0  # hours: labels come from measurements from here on
QUARTER = 6.0  # hours: urine is known over the day if it is charted in each quarter of it
FIO2_MINUTES = 360  # an FiO2 charted longer ago says little

VALUE, TIME = pl.col("value"), pl.col("time")


def organ_failures(events: pl.DataFrame) -> pl.DataFrame:
    """Labels at 24 hours: which organs fail from 24:00 to 48:00, each from a SOFA grade of 2.

    The worst value of the day decides, as in the Sequential Organ Failure Assessment (Vincent et al.,
    1996). In the order of the task's classes:

    - renal: creatinine of 2 mg/dL or more (grade 2), or less than 500 mL of urine from 24:00 to 48:00
      (grade 3; grade 2 has none), where it is charted in each of the four quarters of that day;
    - respiratory: PaO2/FiO2 below 300 mmHg (grade 2), with the last FiO2 of the 6 hours before;
    - cardiovascular: a mean arterial pressure (invasive or not) below 65 mmHg at two times or more.
      Grade 2 and above are defined by vasopressors, which the challenge does not record, and grade 1 by
      one pressure below 70: this stands between them. Measured at fewer than two times it is unknown;
    - coagulation: platelets below 100 x 10^9/L (grade 2);
    - liver: bilirubin of 2 mg/dL or more (grade 2);
    - neurological: a Glasgow coma scale of 12 or less (grade 2).

    A label is missing where nothing that decides it was measured.
    """
    day = events.filter(TIME >= DAY)
    failing = (
        [_any(day, "Creatinine", VALUE >= 2), _low_urine(day)],
        [_low_oxygenation(events)],
        [_low_pressure(day)],
        [_any(day, "Platelets", VALUE < 100)],
        [_any(day, "Bilirubin", VALUE >= 2)],
        [_any(day, "GCS", VALUE <= 12)],
    )
    return pl.concat(
        label_table(
            pl.concat(tables).group_by("stay_id", maintain_order=True).agg(pl.col("bad").any()),
            "organ_failure",
            pl.col("bad"),
            prediction_time=DAY,
            column=column,
        )
        for column, tables in enumerate(failing)
    )


def _measured(events: pl.DataFrame, *names: str) -> pl.DataFrame:
    return events.filter(pl.col("variable").is_in([POSITION[name] for name in names]))


def _any(day: pl.DataFrame, name: str, bad: pl.Expr) -> pl.DataFrame:
    return _measured(day, name).group_by("stay_id").agg(bad=bad.any())


def _low_urine(day: pl.DataFrame) -> pl.DataFrame:
    """An amount is what came since the last charting, so that the one of 24:00 belongs to the first day."""
    quarters = ((TIME - DAY) / QUARTER).ceil().n_unique()
    urine = _measured(day, "Urine").filter(TIME > DAY).group_by("stay_id")
    table = urine.agg(bad=VALUE.sum() < 500, quarters=quarters)
    return table.filter(pl.col("quarters") == 4).drop("quarters")


def _low_pressure(day: pl.DataFrame) -> pl.DataFrame:
    at_once = _measured(day, "MAP", "NIMAP").group_by("stay_id", "time").agg(VALUE.min())
    table = at_once.group_by("stay_id").agg(bad=(VALUE < 65).sum() >= 2, times=pl.len())
    return table.filter(pl.col("times") >= 2).drop("times")


def _low_oxygenation(events: pl.DataFrame) -> pl.DataFrame:
    """PaO2 per unit of the FiO2 last known, that of the same minute included."""
    is_oxygen, is_inspired = (pl.col("variable") == POSITION[name] for name in ("PaO2", "FiO2"))
    gases = _measured(events, "PaO2", "FiO2").sort("stay_id", "time", is_oxygen)
    fio2, since = (pl.when(is_inspired).then(x).forward_fill().over("stay_id") for x in (VALUE, TIME))
    recent = ((TIME - since) * 60).round() <= FIO2_MINUTES
    ratios = gases.with_columns(ratio=VALUE / fio2, recent=recent).filter(is_oxygen & pl.col("recent"))
    return ratios.filter(TIME >= DAY).group_by("stay_id").agg(bad=(pl.col("ratio") < 300).any())
