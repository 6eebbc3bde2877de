"""Tasks of the PhysioNet/CinC Challenge 2012, and the labels that come from its outcomes."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from slices.training.data.cleaning import row_of, sift
from slices.training.data.schema import LABEL_SCHEMA, Tally, TaskInfo

from .files import URL, named

TASKS = (
    TaskInfo(name="in_hospital_mortality", task_type="binary", classes=("survived", "died")),
    TaskInfo(name="length_of_stay", task_type="regression"),
    TaskInfo(
        name="length_of_stay_class",
        task_type="multiclass",
        classes=("up to 6 days", "7 to 13 days", "14 to 27 days", "28 days or more"),
    ),
    TaskInfo(
        name="survival_class",
        task_type="multiclass",
        classes=("died within 30 days", "died within 31 to 365 days", "no death known within 365 days"),
    ),
    TaskInfo(
        name="organ_failure",
        task_type="multilabel",
        classes=("renal", "respiratory", "cardiovascular", "coagulation", "liver", "neurological"),
    ),
)
COLUMNS = {
    "RecordID": "stay_id",
    "Length_of_stay": "days",
    "Survival": "survival",
    "In-hospital_death": "died",
}
UNKNOWN = -1.0
MOST = 2.0**53  # whole numbers up to here are exact


def read_outcomes(path: Path, name: str, stays: pl.DataFrame, tally: Tally) -> pl.DataFrame:
    """Labels at 48 hours from the outcome file of the set of that name.

    Raises ``ValueError`` naming the file where it is not a table of outcomes, ``OSError`` where the system
    does not give it.
    """
    stray = {
        "outcome_without_stay": (
            "an outcome of a stay that is not there",
            ~pl.col("stay_id").is_in(stays["stay_id"].to_list()),
        )
    }
    table = sift(_parse(path, name, tally), stray, tally)
    days, survival, died = pl.col("days"), pl.col("survival"), pl.col("died")
    known_days = table.filter((days > 0) & days.is_finite())
    known_survival = table.filter((survival >= UNKNOWN) & survival.is_finite())
    known_death = table.filter(died.is_in([0.0, 1.0]))
    for rule, what, known in (
        ("unknown_length_of_stay", "a length of stay of -1, missing or not positive", known_days),
        ("unknown_survival", "a survival that is missing or below -1", known_survival),
        ("unknown_death", "an in-hospital death that is neither 0 nor 1", known_death),
    ):
        tally.add(rule, f"{what}; no such label", {name: len(table) - len(known)})
    tally.add(
        "no_outcome",
        "a stay without an outcome; unlabelled",
        {name: len(stays.filter(row_of(table).is_null()))},
    )
    late = (survival > 365) | (survival == UNKNOWN)
    return pl.concat(
        [
            label_table(known_death, "in_hospital_mortality", died),
            label_table(known_days, "length_of_stay", days),
            label_table(
                known_days, "length_of_stay_class", (days >= 7).cast(int) + (days >= 14) + (days >= 28)
            ),
            label_table(
                known_survival,
                "survival_class",
                pl.when(late).then(2).when(survival > 30).then(1).otherwise(0),
            ),
        ]
    )


def _parse(path: Path, name: str, tally: Tally) -> pl.DataFrame:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise named(error, path) from error
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be read as a table of outcomes ({error}): fetch it again from {URL}"
        ) from error
    if not text.strip():
        raise ValueError(f"{path} is empty: fetch it again from {URL}, or remove it to go without outcomes")
    header, *lines = text.splitlines()
    columns = [column.strip() for column in header.split(",")]
    if missing := [column for column in COLUMNS if column not in columns]:
        raise ValueError(
            f"{path} has no column {', '.join(missing)} (it has {', '.join(columns)}): see {URL}"
        )
    table = pl.DataFrame({"line": [line for line in lines if line.strip()]}, schema={"line": pl.String})
    table = table.with_columns(set=pl.lit(name), fields=pl.col("line").str.split(","))
    table = sift(
        table,
        {
            "malformed_outcome": (
                "an outcome without the header's number of fields",
                pl.col("fields").list.len() != len(columns),
            )
        },
        tally,
    )
    numbers = [
        pl.col("fields")
        .list.get(columns.index(column))
        .str.strip_chars()
        .cast(pl.Float64, strict=False)
        .alias(short)
        for column, short in COLUMNS.items()
    ]
    identified = sift(
        table.select("set", *numbers),
        {
            "outcome_without_id": (
                "an outcome without a RecordID, or with one that is no whole number",
                ~(pl.col("stay_id").is_between(0, MOST) & (pl.col("stay_id") % 1 == 0)).fill_null(False),
            ),
            "repeated_outcome": (
                "a further outcome of one stay; the first counts",
                ~pl.col("stay_id").is_first_distinct(),
            ),
        },
        tally,
    )
    if identified.is_empty():
        raise ValueError(f"{path} holds no outcome: fetch it again from {URL}")
    return identified.with_columns(pl.col("stay_id").cast(pl.Int64))


def label_table(
    table: pl.DataFrame, task: str, value: pl.Expr, prediction_time: float = 48.0, column: int = 0
) -> pl.DataFrame:
    """Rows of the label table, one for each row of ``table``, which has a ``stay_id``."""
    return table.select(
        pl.lit(task).alias("task"),
        "stay_id",
        pl.lit(prediction_time).alias("prediction_time"),
        pl.lit(column).alias("column"),
        value.cast(pl.Float64).alias("value"),
    ).cast(LABEL_SCHEMA)
