"""MEDS label tables: each row goes to the stay that holds its prediction time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from slices.encoders.registry import unknown
from slices.training.data.cleaning import sift
from slices.training.data.schema import LABEL_SCHEMA, Tally, TaskInfo
from slices.training.data.sources.reading import collect, schema_of

from .events import KNOWN_BY
from .stays import locate
from .tables import NO_SPLIT, select

KEYS = {"subject_id": "integer", "prediction_time": "time"}
CLASS_COLUMNS = {"boolean_value": "boolean", "integer_value": "integer", "categorical_value": "text"}
NUMBER_COLUMNS = {"float_value": "number", "integer_value": "integer"}


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """A label table, or a folder of them, below ``raw`` or as an absolute path, and what it labels.

    The first of its value columns that a row has counts; a categorical value is one of ``classes`` by name.
    """

    file: str
    task_type: Literal["binary", "multiclass", "regression"]
    classes: tuple[str, ...] = ()

    def task(self, name: str) -> TaskInfo:
        """Raises ``ValueError`` where the classes do not fit the type."""
        default = ("false", "true") if self.task_type == "binary" else ()
        return TaskInfo(name=name, task_type=self.task_type, classes=self.classes or default)

    def files(self, raw: Path) -> list[Path]:
        """The parquet files. Raises ``FileNotFoundError`` where there is none."""
        path = raw / self.file
        files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        if not files or not files[0].is_file():
            raise FileNotFoundError(
                f"no label table at {path}: name a .parquet file or a folder of them in data.source.labels"
            )
        return files


def read_labels(
    files: Sequence[Path], task: TaskInfo, subjects: pl.DataFrame, stays: pl.DataFrame, tally: Tally
) -> pl.DataFrame:
    """The labels of the stays, of ``LABEL_SCHEMA``; what belongs to no stay is counted.

    ``subjects`` are those of the stays, as ``subject_id`` and ``set``. Raises ``ValueError`` naming file and
    column, or the value that is none of the task's classes.
    """
    table = pl.concat([_read(file, task, subjects) for file in files])
    value, time = pl.col("value"), pl.col("prediction_time")
    first = pl.struct("subject_id", "prediction_time", "value").is_first_distinct()
    rules = {
        "duplicate_label": ("a label that repeats another one exactly", ~first),
        "label_without_value": ("a label without a value", value.is_null() | value.is_nan()),
        "label_without_time": ("a label without a prediction time", time.is_null()),
    }
    placed = locate(sift(table, rules, tally), stays, "prediction_time")
    outside = {
        "label_outside_stays": (
            "a label whose prediction time is outside every stay",
            pl.col("stay_id").is_null(),
        )
    }
    early = {
        "label_too_early": (
            f"a label before {KNOWN_BY:g} h, when the statics are not all known yet",
            pl.col("hours") < KNOWN_BY,
        )
    }
    return (
        sift(sift(placed, outside, tally), early, tally)
        .select("stay_id", "value", task=pl.lit(task.name), prediction_time="hours", column=pl.lit(0))
        .select(LABEL_SCHEMA.keys())
        .cast(LABEL_SCHEMA)
    )


def _read(path: Path, task: TaskInfo, subjects: pl.DataFrame) -> pl.DataFrame:
    columns = CLASS_COLUMNS if task.classes else NUMBER_COLUMNS
    given = {name: kind for name, kind in columns.items() if name in schema_of(path)}
    if not given:
        raise ValueError(
            f"{path} has none of {', '.join(columns)}: a {task.task_type} task needs one of them"
        )
    theirs = pl.col("subject_id").is_in(subjects["subject_id"].to_list())
    rows = collect(path, select(path, KEYS | given).filter(theirs))
    table = rows.join(subjects, on="subject_id")
    if "categorical_value" in given:
        _check_classes(table["categorical_value"], task, path)
        position = {name: i for i, name in enumerate(task.classes)}
        by_name = pl.col("categorical_value").replace_strict(position, default=None, return_dtype=pl.Int64)
        table = table.with_columns(by_name)
    values = [pl.col(name).cast(pl.Float64) for name in given]
    return table.select("subject_id", "set", "prediction_time", value=pl.coalesce(values))


def _check_classes(values: pl.Series, task: TaskInfo, path: Path) -> None:
    strange = values.filter(~values.is_in(list(task.classes))).drop_nulls()
    if len(strange):
        raise ValueError(f"{path}: categorical_value: {unknown('class', strange[0], task.classes)}")


def count_strangers(files: Sequence[Path], known: pl.Series, tally: Tally) -> None:
    """Count the labels of subjects that the data does not have."""
    for file in files:
        strange = select(file, KEYS).filter(~pl.col("subject_id").is_in(known.to_list()).fill_null(False))
        count = collect(file, strange.select(pl.len())).item()
        tally.add("label_of_nobody", "a label of a subject that the data does not have", {NO_SPLIT: count})
