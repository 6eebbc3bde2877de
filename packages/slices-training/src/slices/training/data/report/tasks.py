"""The numbers of each task, from one pass over the label table."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from slices.training.data.report.measurements import BLOCK, Array
from slices.training.data.report.model import QUANTILE_NAMES, QUANTILES, LabelSummary, TaskReport
from slices.training.data.sampling import MOST, sample_stays
from slices.training.data.schema import TaskInfo
from slices.training.data.store import StayStore


def describe_tasks(store: StayStore, *, most: int = MOST, block: int = BLOCK) -> tuple[TaskReport, ...]:
    """Each task of the dataset; of over ``most`` labels, quantiles come from a sample of the stays."""
    tasks, n_labels = store.manifest.tasks, store.manifest.counts["labels"]
    sampled, order = sample_stays(store.stay_id, n_labels, most), np.argsort(store.stay_id)
    sets = store.stays["set"].fill_null("none")
    names = sets.unique().sort()
    code = sets.replace_strict(names, range(len(names)), return_dtype=pl.Int64).to_numpy()
    labels = {task.name: _Labels(task, code, len(names), sampled) for task in tasks.values()}
    table = pl.scan_parquet(store.directory / "labels.parquet")
    for start in range(0, n_labels, block):
        for (task,), rows in table.slice(start, block).collect().partition_by("task", as_dict=True).items():
            stay = order[np.searchsorted(store.stay_id, rows["stay_id"].to_numpy(), sorter=order)]
            labels[str(task)].add(rows, stay)
    return tuple(of_task.report(names.to_list()) for of_task in labels.values())


class _Labels:
    """The labels of one task, added up by set and class; of a number there is one class."""

    def __init__(self, task: TaskInfo, code: Array, n_sets: int, sampled: Array) -> None:
        self.task, self.code, self.sampled = task, code, sampled
        self.classes = ("censored", *task.classes) if task.task_type == "survival" else task.classes
        self.n_classes = len(self.classes) or 1
        self.given, self.total = np.zeros((2, n_sets, self.n_classes))
        self.ever = np.zeros((self.n_classes, len(code)), dtype=bool)  # stays with this class
        self.labelled = np.zeros(len(code), dtype=bool)
        self.first, self.last = math.inf, -math.inf
        self.sample: list[tuple[Array, Array]] = []  # values and sets, of a number

    def add(self, rows: pl.DataFrame, stay: Array) -> None:
        """Some rows of the label table, and the positions of their stays."""
        if self.task.task_type == "survival":  # described by its events
            is_event = (rows["column"] == 1).to_numpy()
            rows, stay = rows.filter(is_event), stay[is_event]
        if rows.is_empty():
            return
        value, time = rows["value"].to_numpy(), rows["prediction_time"].to_numpy()
        classes = rows["column"] if self.task.task_type in ("multilabel", "regression") else rows["value"]
        place = self.code[stay] * self.n_classes + classes.to_numpy().astype(np.int64)
        self.given += np.bincount(place, minlength=self.given.size).reshape(self.given.shape)
        self.total += np.bincount(place, value, minlength=self.given.size).reshape(self.given.shape)
        has = value > 0 if self.task.task_type == "multilabel" else slice(None)
        self.ever[place[has] % self.n_classes, stay[has]] = True
        self.labelled[stay] = True
        self.first, self.last = min(self.first, float(time.min())), max(self.last, float(time.max()))
        if self.task.task_type == "regression":
            keep = self.sampled[stay]
            self.sample.append((value[keep], self.code[stay[keep]]))

    def report(self, sets: list[str]) -> TaskReport:
        """What was added up."""
        known = [i for i in range(len(sets)) if self.given[i].any()]
        ever = self.ever.sum(axis=1).tolist() if self.classes else []
        return TaskReport(
            task=self.task,
            first_time=self.first if known else None,
            last_time=self.last if known else None,
            overall=self._summary(list(range(len(sets)))),
            by_set={sets[i]: self._summary([i]) for i in known},
            stays_with=dict(zip(self.classes, ever, strict=True)),
        )

    def _summary(self, sets: list[int]) -> LabelSummary:
        given, total = self.given[sets].sum(axis=0), self.total[sets].sum(axis=0)
        return LabelSummary(
            stays=int(self.labelled[np.isin(self.code, sets)].sum()),
            labels=int(given.sum()),
            numbers=self._numbers(given, total, sets) if given.any() else {},
        )

    def _numbers(self, given: Array, total: Array, sets: list[int]) -> dict[str, float]:
        if self.task.task_type == "regression":
            values = np.concatenate([value[np.isin(code, sets)] for value, code in self.sample])
            quantiles = np.quantile(values, QUANTILES).tolist() if len(values) else []
            return {"mean": float(total[0] / given[0]), **dict(zip(QUANTILE_NAMES, quantiles, strict=False))}
        several = self.task.task_type == "multilabel"
        shares = total / np.maximum(given, 1) if several else given / given.sum()
        return dict(zip(self.classes, shares.tolist(), strict=True))
