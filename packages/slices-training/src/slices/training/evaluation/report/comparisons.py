"""Differences between models on the same rows and resamples, and what many tests cost."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from slices.heads import TaskType
from slices.training.evaluation.bootstrap import Predictions, percentile_interval
from slices.training.evaluation.comparison import bootstrap_p_value, delong_p_value, holm
from slices.training.evaluation.report.config import EvaluateConfig
from slices.training.evaluation.report.results import Comparison
from slices.training.evaluation.report.suites import COMPARED
from slices.training.evaluation.weighted import Array


def compared(
    overall: dict[str, dict[str, Array]],
    runs: dict[str, Predictions],
    task_type: TaskType,
    config: EvaluateConfig,
) -> list[Comparison]:
    """Each pair of models, or each model with the reference, in the metrics of ``COMPARED``.

    ``overall`` has the draws ``(1 + R,)`` of each model's metrics, on the same resamples.
    """
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
    return [
        Comparison(*one, p_holm, _delong(one[0], runs[one[1]], runs[one[2]], task_type))
        for one, p_holm in zip(found, corrected, strict=True)
    ]


def too_few_resamples(n_resamples: int, n_comparisons: int) -> list[str]:
    """A note where not even the least p value, 2 / (R + 1), could pass Holm's correction at 5 %.

    >>> too_few_resamples(100, 4)
    ['100 resamples let none of 4 comparisons pass the correction at 5 %: give n_resamples=160']
    """
    if n_resamples >= (enough := 40 * n_comparisons):
        return []
    return [
        f"{n_resamples} resamples let none of {n_comparisons} comparisons pass the correction at 5 %: "
        f"give n_resamples={enough}"
    ]


def _delong(metric: str, run: Predictions, other: Predictions, task_type: TaskType) -> float | None:
    one_row_each = len(np.unique(run.patient_id)) == len(run.patient_id)
    if metric != "auroc" or task_type != "binary" or not one_row_each:
        return None
    return delong_p_value(run.prediction, other.prediction, run.label)
