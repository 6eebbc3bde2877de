"""What became of the patient of a stay, from the codes of death and of discharge from hospital."""

from __future__ import annotations

import polars as pl

from .stays import hours

KNOWN = ("died_in_icu", "died_in_hospital", "death_hours", "hospital_hours")


def outcomes_of(stays: pl.DataFrame, ends: pl.DataFrame) -> pl.DataFrame:
    """``stay_id`` and ``KNOWN`` of each stay.

    ``ends`` has ``subject_id``, ``time`` and ``is_death``. A patient without a death is alive; the discharge
    is the first one after the stay has begun, and without one it is unknown whether the patient died in
    hospital. The discharge of the dead is often dated before their death: a death up to the day of the
    discharge, or up to the end of the stay, counts as one in hospital.
    """
    death = ends.filter("is_death").group_by("subject_id").agg(death=pl.col("time").min())
    discharges = ends.filter(~pl.col("is_death")).select("subject_id", discharge="time").sort("discharge")
    placed = (
        stays.select("stay_id", "subject_id", "start", "end", "length_hours")
        .join(death, on="subject_id", how="left")
        .sort("start")
        .join_asof(
            discharges,
            left_on="start",
            right_on="discharge",
            by="subject_id",
            strategy="forward",
            check_sortedness=False,
        )
    )
    died, discharge = pl.col("death"), pl.col("discharge")
    in_icu = (died <= pl.col("end")).fill_null(False)
    by_discharge = (died.dt.date() <= discharge.dt.date()).fill_null(False)
    known = discharge.is_not_null() | in_icu
    return placed.select(
        "stay_id",
        died_in_icu=in_icu,
        died_in_hospital=pl.when(known).then(in_icu | by_discharge),
        death_hours=hours("death", "start"),
        hospital_hours=hours("discharge", "start"),
    )
