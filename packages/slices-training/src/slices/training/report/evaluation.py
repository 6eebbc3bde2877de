"""The report of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from slices.training.evaluation.report import Evaluation
from slices.training.evaluation.report.config import EvaluateConfig
from slices.training.evaluation.report.text import tables_of, title_of
from slices.training.report.binary import binary_figures, confusion_table
from slices.training.report.cells import Table
from slices.training.report.facts import software, typed
from slices.training.report.figure import Drawn
from slices.training.report.forest import comparison_figures, group_figures
from slices.training.report.labels import label_figures
from slices.training.report.outcomes import class_figures, value_figures
from slices.training.report.page import Page, Section
from slices.training.report.survival import survival_figures


def evaluation_page(evaluation: Evaluation, config: EvaluateConfig, overrides: Sequence[str]) -> Page:
    """The page of what the app found; ``overrides`` are what was typed."""
    least, sizes = config.min_patients, f"{evaluation.rows:,} of {evaluation.patients:,} patients"
    facts = {
        "command": typed("evaluate", overrides),
        "task": f"{evaluation.task} ({evaluation.task_type})",
        "test rows": sizes if evaluation.patients >= least else f"of fewer than {least} patients",
        "models": ", ".join(evaluation.tested),
        "intervals": f"{config.level:.0%}, {config.n_resamples:,} resamples of patients",
        **software(),
    }
    sections = evaluation_sections(evaluation, least)
    return Page(f"Evaluation: {evaluation.task}", facts, sections, tuple(evaluation.notes))


def evaluation_sections(evaluation: Evaluation, least: int, prefix: str = "") -> tuple[Section, ...]:
    """Figures and tables without anything of fewer patients than ``least``.

    ``prefix`` sets the names of figures apart where a page has several evaluations.
    """
    if evaluation.patients < least:
        return (Section(evaluation.task, f"Fewer than {least} patients: nothing is shown of them."),)
    shown = evaluation._replace(estimates=[e for e in evaluation.estimates if e.patients >= least])
    tables = {table.title: table for table in tables_of(shown)}
    if shown.task_type == "binary":
        tables["At the threshold"] = confusion_table(shown, least)
    parts = (
        Section(
            title_of(shown), "", tuple(_of_task(shown, least)), _some(tables, "Models", "At the threshold")
        ),
        Section("Models compared", "", tuple(comparison_figures(shown)), _some(tables, "Comparisons")),
        Section("Groups", "", tuple(group_figures(shown)), _some(tables, "Gaps between groups", "Groups")),
        Section("All numbers", tables=_some(tables, "All metrics", "Chosen on validation rows")),
    )
    return tuple(
        replace(part, figures=tuple(replace(one, name=f"{prefix}{one.name}") for one in part.figures))
        for part in parts
        if part.figures or part.tables
    )


def _of_task(evaluation: Evaluation, least: int) -> list[Drawn]:
    kinds = {
        "binary": binary_figures,
        "multiclass": class_figures,
        "multilabel": label_figures,
        "regression": value_figures,
        "survival": survival_figures,
    }
    return kinds[evaluation.task_type](evaluation, least)


def _some(tables: Mapping[str, Table], *titles: str) -> tuple[Table, ...]:
    return tuple(tables[title] for title in titles if title in tables and tables[title].rows)
