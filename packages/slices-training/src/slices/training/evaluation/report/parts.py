"""The parts of the test rows that are judged by themselves: groups of stays, hours, classes and labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from slices.heads import TaskType
from slices.training.evaluation.bootstrap import Array, Predictions
from slices.training.evaluation.report.config import EvaluateConfig
from slices.training.evaluation.report.groups import UNKNOWN, group_of_rows, stay_groups, time_of_rows

OVERALL = ("all", "all")


class Part(NamedTuple):
    """Some rows, of one output where ``output`` is not None. ``compares``: its grouping may have gaps."""

    key: tuple[str, str]
    n_rows: int
    n_patients: int
    rows: Array
    output: int | None = None
    compares: bool = False

    def of(self, run: Predictions) -> Predictions:
        """A model's predictions of these rows; of one output as of a binary task."""
        row_id, patient_id, label, prediction = (field[self.rows] for field in run)
        if self.output is not None:
            label = label[:, self.output] if label.ndim == 2 else label == self.output
            known = np.isfinite(label.astype(np.float64))
            row_id, patient_id, label = row_id[known], patient_id[known], label[known].astype(np.float64)
            prediction = prediction[known, self.output]
        return Predictions(row_id, patient_id, label, prediction)


def parts_of(
    about: pl.DataFrame, task_type: TaskType, models: dict[str, Predictions], config: EvaluateConfig
) -> tuple[list[Part], list[str]]:
    """The whole, then every part with enough patients; and notes on what makes none."""
    patient = about["patient_id"].to_numpy()
    everything = np.arange(len(about))
    parts = [Part(OVERALL, len(about), len(np.unique(patient)), everything)]
    parts += _outputs(task_type, next(iter(models.values())), parts[0])
    groupings, notes = _groupings(about, config)
    for grouping, of_row in groupings.items():
        for name in of_row.unique().sort():
            rows = np.flatnonzero(of_row == name)
            n_patients = len(np.unique(patient[rows]))
            if n_patients < config.min_patients:
                notes.append(f"{grouping} {name}: fewer than {config.min_patients} patients, not shown")
                continue
            compares = grouping != "hour" and name != UNKNOWN
            parts.append(Part((grouping, name), len(rows), n_patients, rows, compares=compares))
    return parts, notes


def _groupings(about: pl.DataFrame, config: EvaluateConfig) -> tuple[dict[str, pl.Series], list[str]]:
    """The group of each row, ordered, by grouping; and notes."""
    groupings: dict[str, pl.Series] = {}
    notes: list[str] = []
    if config.groups is not None:
        table, notes = stay_groups(config.groups, config.bands)
        groupings = group_of_rows(about, table)
    if (hours := time_of_rows(about, config.hours)) is not None:
        groupings["hour"] = hours
    return groupings, notes


def _outputs(task_type: TaskType, run: Predictions, whole: Part) -> list[Part]:
    """Of several classes each against the rest, and each of several labels or targets."""
    if run.prediction.ndim == 1 or task_type == "survival":
        return []
    what = {"multiclass": "class", "multilabel": "label"}.get(task_type, "target")
    parts = []
    for k in range(run.prediction.shape[1]):
        known = np.isfinite(run.label[:, k]) if run.label.ndim == 2 else np.isfinite(run.label)
        n_patients = len(np.unique(run.patient_id[known]))
        parts.append(Part((what, str(k)), int(known.sum()), n_patients, whole.rows, output=k))
    return parts
