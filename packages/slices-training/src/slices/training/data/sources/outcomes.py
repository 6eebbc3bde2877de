"""Outcomes of sources that label death in hospital and the days there themselves."""

from __future__ import annotations

import polars as pl

KNOWN = ("died_in_hospital", "hospital_hours")


def known_outcomes(labels: pl.DataFrame) -> pl.DataFrame:
    """``KNOWN`` by stay, from the tasks ``in_hospital_mortality`` and ``length_of_stay`` (in days)."""

    def values(task: str) -> pl.DataFrame:
        return labels.filter(pl.col("task") == task).select("stay_id", "value")

    died = values("in_hospital_mortality").select("stay_id", died_in_hospital=pl.col("value") > 0)
    hours = values("length_of_stay").select("stay_id", hospital_hours=pl.col("value") * 24)
    return died.join(hours, on="stay_id", how="full", coalesce=True)
