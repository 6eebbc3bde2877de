"""The report of a pretraining run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from slices.training.report.curves import draw_curves
from slices.training.report.facts import facts_of, last_metrics
from slices.training.report.figure import Drawn
from slices.training.report.logs import Curve, read_logs
from slices.training.report.page import Page, Section
from slices.training.report.style import named

Curves = dict[str, Curve]
SETS = {"train": "training", "val": "validation"}
HEALTH = {
    "rank": "RankMe",
    "dimensions": "dimensions",
    "std": "standard dev.",
    "uniformity": "uniformity",
    "alignment": "alignment",
}
ABOUT_HEALTH = (
    "RankMe (effective rank) and dimensions of the variance should not fall towards 1, nor the standard "
    "deviation towards 0: the embedding would collapse. Uniformity (lower: spread out more evenly) and "
    "alignment (lower: two views of a stay nearer each other) pull against each other."
)


def pretraining_page(folder: Path, about: Mapping[str, str]) -> Page:
    """The page of the run in a folder, from its record and its logs; ``about`` are facts more.

    Raises:
        FileNotFoundError, ValueError: there is no record or no log, or it is damaged.
    """
    curves = read_logs(folder)
    sections = (
        Section("Training", figures=tuple(training_figures(curves))),
        Section("Embedding", figures=tuple(_of_embedding(curves))),
        Section("In the end", tables=(last_metrics(folder),)),
    )
    shown = tuple(section for section in sections if section.figures or section.tables)
    return Page("Pretraining", facts_of(folder, about), shown)


def training_figures(curves: Curves) -> list[Drawn]:
    """The loss, whatever else was logged of both sets, and the learning rate."""
    parts = list(dict.fromkeys(name.partition("/")[2] for name in curves if name.startswith(tuple(SETS))))
    panels = {part: both for part in parts if (both := _of_sets(curves, part))}
    figures = []
    if loss := panels.pop("loss", None):
        caption = "Means over the epoch. Where validation rises while training falls, the model overfits."
        figures.append(draw_curves("loss", "Loss", caption, {"loss": loss}))
    if others := {named(part): both for part, both in panels.items() if both != loss}:
        caption = "What was logged beside the loss: means over the epoch."
        figures.append(draw_curves("parts", "Parts and metrics", caption, others))
    if "lr" in curves:
        rate = {"learning rate": {"learning rate": curves["lr"]}}
        caption = "Of the first group of parameters."
        figures.append(draw_curves("learning_rate", "Learning rate", caption, rate))
    return figures


def _of_sets(curves: Curves, part: str) -> Curves:
    return {word: curves[f"{key}/{part}"] for key, word in SETS.items() if f"{key}/{part}" in curves}


def _of_embedding(curves: Curves) -> list[Drawn]:
    figures = []
    health = {
        label: {label: curves[f"embedding/{name}"]}
        for name, label in HEALTH.items()
        if f"embedding/{name}" in curves
    }
    if health:
        figures.append(draw_curves("health", "Health of the embedding", ABOUT_HEALTH, health))
    scores = {
        named(metric): {
            word: curves[f"{key}/{metric}"]
            for key, word in (("probe", "linear probe"), ("knn", "nearest neighbours"))
            if f"{key}/{metric}" in curves
        }
        for metric in ("auroc", "auprc")
    }
    if scores["AUROC"]:
        caption = "Fitted on labelled training stays, judged on validation stays: what the embedding knows."
        figures.append(draw_curves("probe", "Probes of the embedding", caption, scores))
    return figures
