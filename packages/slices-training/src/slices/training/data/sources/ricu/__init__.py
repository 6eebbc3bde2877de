"""The hourly tables that ricu and YAIB write, of any database."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import polars as pl

from slices.training.data.labels import check_labels
from slices.training.data.schema import LABEL_SCHEMA, Chunk, Tally, TaskInfo, Variable
from slices.training.data.sources.base import Part, Source, register_source
from slices.training.data.sources.statics import static_events
from slices.training.data.vocabulary import read_vocabulary, stamped

from .layout import TABLES, Layout, find_layout, table_path, unknown_variables
from .tables import read_events, read_labels, read_stays, stay_ranges, with_lengths

__all__ = ["RicuConfig", "RicuSource"]


@dataclass(kw_only=True)
class RicuConfig:
    """Where the tables lie, how their columns are understood, and what their labels are.

    ``vocabulary`` names what the columns are; the dataset has all of its variables. A column that it lacks
    is an error, since a misspelt one would be a variable without a range that no other hospital has, and a
    column of ``sta`` may tell the outcome; with ``keep_unknown`` it becomes a variable of its own.
    ``task_name`` is what the labels of ``outc`` are called in the dataset. ``prediction_time`` is the hour
    at which the input ends where each stay has one label (where each hour has one, it ends with the hour):
    24 shows the rows of hours 0 to 23. YAIB's tables of the first 24 hours have a row 24, [24, 25), which its
    own models see, and what is asked of these stays begins after it: 25 shows what they see.
    ``patient_column`` says whose stay it is (null: ``patient_id`` or ``subject_id``, where there is one): a
    column of ``sta``, or of ``patients``, a file of its own with ``stay_id``. ``whole_stays`` says that the
    rows of ``dyn`` go on to the end of each stay, which YAIB's do not: without it no task can be defined
    about the stay's length.
    """

    raw: str = field(default="data/ricu", metadata={"content": False})
    vocabulary: str = "icu"
    keep_unknown: bool = False
    patients: str | None = field(default=None, metadata={"content": False})
    patient_column: str | None = None
    task_name: str = "label"
    task_type: Literal["binary", "regression", "multiclass"] = "binary"
    classes: tuple[str, ...] = ()
    prediction_time: float = 24.0
    whole_stays: bool = field(default=False, metadata={"content": False})

    def __post_init__(self) -> None:
        if not self.task_name.strip():
            raise ValueError("task_name is blank: name the task that the labels are of")
        if not 0 < self.prediction_time < math.inf:
            raise ValueError(f"prediction_time={self.prediction_time}: allowed is a positive number of hours")
        if self.prediction_time != round(self.prediction_time):
            raise ValueError(
                f"prediction_time={self.prediction_time}: allowed are whole hours; a row sums up an hour"
            )
        self.task()

    def task(self, per_step: bool = False) -> TaskInfo:
        """What the labels are. Raises ``ValueError`` for classes that do not fit the type."""
        classes = self.classes or (("negative", "positive") if self.task_type == "binary" else ())
        return TaskInfo(name=self.task_name, task_type=self.task_type, classes=classes, per_step=per_step)


@register_source("ricu", RicuConfig)
class RicuSource(Source):
    """One folder: ``dyn.parquet`` (hourly values), ``sta.parquet`` (statics), ``outc.parquet`` (labels).

    The row of hour t sums up [t, t + 1): its values are events at t, which the view puts into bin t. They
    are known at t + 1, so that a label of hour t has the prediction time t + 1. A stay ends with the hour
    of its last row. ``sta`` says which stays there are. Without ``outc`` there is no task.
    """

    known_after = 1.0
    config: RicuConfig

    @property
    def cut(self) -> str | None:  # type: ignore[override]
        """YAIB stops after a task's first hours, or where it is decided."""
        if self.config.whole_stays:
            return None
        return (
            "with the last row of dyn, at hour 24 or 168 if YAIB wrote it "
            "(data.source.whole_stays=true where it goes on to the end of the stay)"
        )

    @cached_property
    def layout(self) -> Layout:
        """Which columns there are, from the metadata of the files. Raises as ``find_layout`` does."""
        config = self.config
        return find_layout(
            Path(config.raw),
            read_vocabulary(config.vocabulary),
            keep_unknown=config.keep_unknown,
            patients=config.patients,
            patient_column=config.patient_column,
        )

    @cached_property
    def variables(self) -> tuple[Variable, ...]:  # known once the files are seen
        """Those of the vocabulary, then the unknown ones that are kept."""
        vocabulary = read_vocabulary(self.config.vocabulary)
        return (*vocabulary.values(), *unknown_variables(self.layout, vocabulary))

    @cached_property
    def tasks(self) -> tuple[TaskInfo, ...]:
        """The one that is configured: with one label an hour where ``outc`` has a time."""
        layout = self.layout
        return (self.config.task("time" in layout.outc),) if layout.outc else ()

    def options(self) -> dict[str, Any]:
        """Those of the config, the vocabulary by its content."""
        return super().options() | {"vocabulary": stamped(self.config.vocabulary)}

    def parts(self) -> Sequence[Part]:
        """Ranges of stay ids, of about ``ROWS`` hours each."""
        layout = self.layout
        patients = (self.config.patients,) if self.config.patients else ()
        files = (*(str(layout.path(table)) for table in TABLES), *patients)
        n = len(stay_ranges(layout))
        return [Part(f"{i + 1} of {n}", files) for i in range(n)]

    def raw_files(self) -> dict[str, list[Path]]:
        """The three tables, and that of the patients."""
        patients = self.config.patients
        tables = {"raw": [table_path(Path(self.config.raw), table) for table in TABLES]}
        return tables | ({"patients": [Path(patients)]} if patients else {})

    def read(self, part: Part, tally: Tally) -> Iterator[Chunk]:
        layout = self.layout
        within = stay_ranges(layout)[int(part.name.split(" of ")[0]) - 1]
        position = {variable.name: i for i, variable in enumerate(self.variables)}
        stays = read_stays(layout, within, tally)
        statics = static_events(layout.path("sta"), stays, layout.statics, position, tally)
        events, seen = read_events(layout, within, position, tally)
        labels = LABEL_SCHEMA.to_frame()
        if layout.outc:
            labelled = read_labels(layout, within, stays, tally)
            seen = pl.concat([seen, labelled.select(seen.columns)])
            labels = self._labels(labelled)
        yield Chunk(with_lengths(stays, seen, tally), pl.concat([statics, events]), labels)

    def _labels(self, labelled: pl.DataFrame) -> pl.DataFrame:
        (task,) = self.tasks
        time = pl.col("hour") + 1 if task.per_step else pl.lit(self.config.prediction_time)
        labels = labelled.select(
            pl.lit(task.name).alias("task"),
            "stay_id",
            time.alias("prediction_time"),
            pl.lit(0).alias("column"),
            "value",
        ).cast(LABEL_SCHEMA)
        try:
            check_labels(labels, {task.name: task})
        except ValueError as error:
            raise ValueError(f"{self.layout.path('outc')}: {error}") from error
        return labels
