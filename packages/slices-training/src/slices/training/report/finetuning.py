"""The report of a fine-tuning run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from slices.training.evaluation.report import EvaluateConfig, evaluate
from slices.training.report.evaluation import evaluation_sections
from slices.training.report.facts import facts_of, last_metrics
from slices.training.report.logs import read_logs
from slices.training.report.page import Page, Section
from slices.training.report.pretraining import training_figures

RESAMPLES = 200  # for a first look: the evaluate app takes more


def finetuning_page(folder: Path, about: Mapping[str, str]) -> Page:
    """The page of the run in a folder, from its record, its logs and its predictions.

    Raises:
        FileNotFoundError, ValueError: one of them is not there, or damaged.
    """
    sections = [Section("Training", figures=tuple(training_figures(read_logs(folder))))]
    notes = []
    file = folder / "predictions.parquet"
    tasks = pl.scan_parquet(file).select(pl.col("task").unique(maintain_order=True)).collect()["task"]
    for task in tasks:
        config = EvaluateConfig(predictions=(str(file),), task_name=task, n_resamples=RESAMPLES)
        evaluation = evaluate(config)
        prefix = re.sub(r"\W", "_", task) + "_" if len(tasks) > 1 else ""
        sections += evaluation_sections(evaluation, config.min_patients, prefix)
        notes += [f"{task}: {note}" for note in evaluation.notes]
    sections.append(Section("In the end", tables=(last_metrics(folder),)))
    title = f"Fine-tuning: {', '.join(tasks)}"
    return Page(title, facts_of(folder, about), tuple(sections), tuple(notes))
