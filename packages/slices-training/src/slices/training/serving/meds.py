"""Predictions as MEDS files: the label schema of MEDS 0.4, and what ``meds-evaluation`` adds to it.

``subject_id, prediction_time, boolean_value, predicted_boolean_value, predicted_boolean_probability``, see
https://github.com/kamilest/meds-evaluation, ``PredictionSchema``. ``boolean_value``, the label, may be left
out but not be null: it is there where every prediction has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import polars as pl

from slices.training.data.sources.base import Source
from slices.training.errors import UserError
from slices.training.serving.model import TrainedModel

SCHEMA = pl.Schema(
    {  # type: ignore[arg-type]
        "subject_id": pl.Int64,
        "prediction_time": pl.Datetime("us"),
        "boolean_value": pl.Boolean,
        "predicted_boolean_value": pl.Boolean,
        "predicted_boolean_probability": pl.Float32,
    }
)
MICROSECONDS = 3.6e9  # in an hour


def admissions_of(source: Source, model: TrainedModel) -> pl.DataFrame:
    """When each stay of the source was admitted.

    Raises:
        UserError: a task that is not binary, or a source that only knows hours since admission.
    """
    if model.task.task_type != "binary":
        raise UserError(
            f"format=meds: MEDS predictions are of binary tasks, the model's is {model.task.task_type}: use "
            "format=slices"
        )
    admissions = source.admissions()
    if admissions is None:
        raise UserError(
            f"format=meds: MEDS predictions have timestamps, the source {source.name!r} only knows hours "
            "since admission: use format=slices, or data=meds"
        )
    return admissions


def meds_schema(labelled: bool) -> pl.Schema:
    """The columns, with those of labels where all predictions have one."""
    return pl.Schema({name: kind for name, kind in SCHEMA.items() if labelled or name != "boolean_value"})


def meds_tables(tables: Iterable[pl.DataFrame], admissions: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The rows of class 1, in the columns of MEDS. Raises ``UserError`` for a stay without an admission."""
    for table in tables:
        rows = table.filter(pl.col("output") == 1).join(
            admissions, on="stay_id", how="left", maintain_order="left"
        )
        if len(lost := rows.filter(pl.col("admission").is_null())):
            raise UserError(
                f"stay {lost['stay_id'][0]} has no admission in the raw data: is the dataset made of it?"
            )
        microseconds = (pl.col("prediction_time").cast(pl.Float64) * MICROSECONDS).round().cast(pl.Int64)
        yield rows.select(
            subject_id="patient_id",
            prediction_time=pl.col("admission") + pl.duration(microseconds=microseconds),
            boolean_value=pl.col("label") == 1,
            predicted_boolean_value=pl.col("predicted") == 1,
            predicted_boolean_probability="prediction",
        )
