"""From prediction files to estimates with intervals, comparisons and gaps between groups."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np

from slices.heads import TaskType
from slices.training.evaluation.bootstrap import Predictions, metric_draws, percentile_interval
from slices.training.evaluation.comparison import bootstrap_p_value, holm
from slices.training.evaluation.report.alignment import Aligned, aligned_test_rows, predictions_of
from slices.training.evaluation.report.choices import Choice, choose
from slices.training.evaluation.report.config import EvaluateConfig
from slices.training.evaluation.report.files import Contents, read_predictions
from slices.training.evaluation.report.parts import OVERALL, Part, parts_of
from slices.training.evaluation.report.suites import COMPARED, suite, suite_of_part
from slices.training.evaluation.weighted import Array

ODDS = {"sensitivity": "equal_opportunity_gap", "specificity": "false_alarm_gap"}
GAPS = ODDS | {"calibration_in_the_large": "calibration_gap", "auroc": "auroc_gap"}


class Estimate(NamedTuple):
    """A metric of one model in one group of test rows (``all``: every row)."""

    model: str
    grouping: str
    group: str
    metric: str
    estimate: float
    low: float
    high: float
    rows: int
    patients: int


class Comparison(NamedTuple):
    """A metric of one model less that of another on the same rows; ``p_holm`` counts all comparisons."""

    metric: str
    model: str
    other: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


class Evaluation(NamedTuple):
    """What the app found. ``gaps`` are the largest differences between groups of one grouping."""

    task: str
    task_type: TaskType
    rows: int
    patients: int
    estimates: list[Estimate]
    comparisons: list[Comparison]
    gaps: list[Estimate]
    choices: dict[str, Choice]
    tested: dict[str, Predictions]
    notes: list[str]


def evaluate(config: EvaluateConfig) -> Evaluation:
    """Judges the models of some prediction files on the test rows that they all have.

    Temperature and thresholds are chosen on each model's validation rows. Intervals are percentiles over
    resampled patients, the same draws for all models and groups.

    Raises:
        FileNotFoundError, ValueError: files, groups or a reference that cannot be.
    """
    contents = read_predictions(config.predictions, config.task_type)
    if config.reference not in (None, *contents.models):
        raise ValueError(f"reference={config.reference}: no such model, only {', '.join(contents.models)}")
    aligned = aligned_test_rows(contents)
    parts, notes = parts_of(aligned.about, contents.task_type, aligned.models, config)
    notes += [
        f"{name}: {n} test rows that not all models have are left out"
        for name, n in aligned.left_out.items()
        if n
    ]
    choices = _choices(contents, aligned, config)
    notes += [f"{name}: {note}" for name, choice in choices.items() for note in choice.notes]
    estimates, gaps, overall = [], [], {}
    for name, run in aligned.models.items():
        draws = _draws(run, parts, contents.task_type, choices[name], config)
        overall[name] = draws[OVERALL]
        estimates += _estimates(name, parts, draws, config)
        gaps += _gaps(name, parts, draws, config)
    patients = aligned.about["patient_id"].n_unique()
    comparisons = _comparisons(overall, contents.task_type, config)
    return Evaluation(
        contents.task,
        contents.task_type,
        len(aligned.about),
        patients,
        estimates,
        comparisons,
        gaps,
        choices,
        aligned.models,
        notes,
    )


Draws = dict[tuple[str, str], dict[str, Array]]


def _choices(contents: Contents, aligned: Aligned, config: EvaluateConfig) -> dict[str, Choice]:
    """From validation rows alone."""
    chosen = {}
    for name, splits in contents.models.items():
        prediction = aligned.models[name].prediction
        n_labels = 1 if prediction.ndim == 1 else prediction.shape[1]
        validation = predictions_of(splits["val"]) if "val" in splits else None
        chosen[name] = choose(validation, contents.task_type, config.threshold, n_labels)
    return chosen


def _draws(
    run: Predictions, parts: list[Part], task_type: TaskType, choice: Choice, config: EvaluateConfig
) -> Draws:
    """Every metric of every part, for the rows as they are and each resample of all patients."""
    whole = suite(task_type, choice, config)
    draws: Draws = {}
    for part in parts:
        metrics = whole if part.key == OVERALL else suite_of_part(part, task_type, whole, choice)
        draws |= metric_draws(
            metrics,
            {part.key: part.of(run)},
            patients=run.patient_id,  # all of them in each draw, so that parts pair up
            n_resamples=config.n_resamples,
            seed=config.seed,
        )
    return draws


def _estimates(model: str, parts: list[Part], draws: Draws, config: EvaluateConfig) -> list[Estimate]:
    return [
        Estimate(
            model, *part.key, metric, *percentile_interval(values, config.level), part.n_rows, part.n_patients
        )
        for part in parts
        for metric, values in draws[part.key].items()
    ]


def _gaps(model: str, parts: list[Part], draws: Draws, config: EvaluateConfig) -> list[Estimate]:
    """Largest less smallest over the groups of a grouping, and the larger of the two gaps of the odds."""
    gaps = []
    for grouping in dict.fromkeys(part.key[0] for part in parts if part.compares):
        members = [part for part in parts if part.key[0] == grouping and part.compares]
        if len(members) < 2:
            continue
        found = {
            gap: np.ptp([draws[part.key][metric] for part in members], axis=0)
            for metric, gap in GAPS.items()
            if all(metric in draws[part.key] for part in members)
        }
        if set(ODDS.values()) <= set(found):
            found["equalised_odds_gap"] = np.maximum(*(found[gap] for gap in ODDS.values()))
        size = sum(part.n_rows for part in members), sum(part.n_patients for part in members)
        gaps += [
            Estimate(model, grouping, OVERALL[0], gap, *percentile_interval(values, config.level), *size)
            for gap, values in found.items()
        ]
    return gaps


def _comparisons(
    overall: dict[str, dict[str, Array]], task_type: TaskType, config: EvaluateConfig
) -> list[Comparison]:
    if config.reference is None:
        pairs = [(model, other) for other, model in combinations(overall, 2)]
    else:
        pairs = [(model, config.reference) for model in overall if model != config.reference]
    found = []
    for metric in COMPARED[task_type]:
        for model, other in pairs:
            difference = overall[model][metric] - overall[other][metric]
            interval = percentile_interval(difference, config.level)
            found.append((metric, model, other, *interval, bootstrap_p_value(difference[1:])))
    corrected = holm([p for *_, p in found])
    return [Comparison(*one, p_holm) for one, p_holm in zip(found, corrected, strict=True)]
