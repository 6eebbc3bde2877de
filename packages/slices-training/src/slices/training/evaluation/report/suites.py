"""Which metrics each type of task is judged by."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from slices.heads import TaskType
from slices.training.evaluation import calibration, operating, survival, weighted
from slices.training.evaluation.bootstrap import Array, WeightedMetric
from slices.training.evaluation.report.choices import Choice
from slices.training.evaluation.report.config import EvaluateConfig
from slices.training.evaluation.report.parts import Part
from slices.training.evaluation.selection import scaled

Suite = dict[str, WeightedMetric]

# compared between models; the first is what the app returns
COMPARED: dict[TaskType, tuple[str, ...]] = {
    "binary": ("auroc", "auprc", "min_se_ppv", "brier"),
    "multiclass": ("auroc", "auprc", "accuracy", "brier"),
    "multilabel": ("auroc", "auprc", "brier"),
    "regression": ("mae", "rmse"),
    "survival": ("concordance", "integrated_brier"),
}
LOWER_IS_BETTER = ("brier", "mae", "rmse", "integrated_brier")
# of groups of rows, classes and labels
IN_GROUPS: dict[TaskType, tuple[str, ...]] = {
    "binary": (
        *("prevalence", "auroc", "auprc", "brier", "calibration_in_the_large"),
        *("sensitivity", "specificity"),
    ),
    "multiclass": ("auroc", "auprc", "accuracy", "brier"),
    "multilabel": ("auroc", "auprc", "brier"),
    "regression": ("mae", "rmse", "r2"),
    "survival": ("concordance", "integrated_brier"),
}


def suite(task_type: TaskType, choice: Choice, config: EvaluateConfig) -> Suite:
    """All metrics by name, of a model for which this was chosen."""
    if task_type == "regression":
        errors = {"mse": weighted.mse, "mae": weighted.mae, "rmse": weighted.rmse, "r2": weighted.r2}
        return {name: partial(_over_targets, metric) for name, metric in errors.items()}
    metrics: Suite = {"auroc": weighted.auroc, "auprc": weighted.auprc, **_probabilities()}
    if task_type == "multiclass":
        metrics |= {"accuracy": weighted.accuracy, "macro_f1": operating.macro_f1}
    if task_type == "binary":
        metrics |= _binary(config)
        if choice.thresholds[0] is not None:
            metrics |= _at(choice.thresholds[0])
    if choice.temperature is not None:
        metrics |= {
            f"{name}_scaled": partial(_at_temperature, metric, choice.temperature, task_type == "multiclass")
            for name, metric in _probabilities().items()
        }
    return metrics


def survival_suite(until: Array, n_events: int) -> Suite:
    """Concordance and integrated Brier score of the first event; of a second as ``concordance_2``, and so on.

    ``until`` ``(K,)`` are the hours of the predicted incidence.
    """
    metrics: dict[str, Any] = {"concordance": survival.time_dependent_concordance}
    if len(until) > 1:
        metrics["integrated_brier"] = survival.integrated_brier
    return {
        name if event == 1 else f"{name}_{event}": partial(_of_event, metric, event, until)
        for event in range(1, n_events + 1)
        for name, metric in metrics.items()
    }


def suite_of_part(part: Part, task_type: TaskType, whole: Suite, choice: Choice) -> Suite:
    """The metrics of a part of the rows; of one class or label those of a binary task."""
    if part.output is None:
        return {name: metric for name, metric in whole.items() if name in IN_GROUPS[task_type]}
    if task_type == "regression":
        return {"mae": weighted.mae, "rmse": weighted.rmse, "r2": weighted.r2}
    metrics: Suite = {
        "prevalence": _prevalence,
        "auroc": weighted.auroc,
        "auprc": weighted.auprc,
        "brier": calibration.brier,
        "calibration_in_the_large": calibration.calibration_in_the_large,
    }
    threshold = choice.thresholds[part.output] if choice.thresholds else None
    return metrics if threshold is None else metrics | _at(threshold)


def _probabilities() -> Suite:
    return {
        "brier": calibration.brier,
        "log_loss": calibration.log_loss,
        "calibration_error": calibration.calibration_error,
    }


def _binary(config: EvaluateConfig) -> Suite:
    at_specificity = partial(operating.sensitivity_at_specificity, specificity=config.specificity)
    metrics: Suite = {
        "prevalence": _prevalence,
        "min_se_ppv": operating.min_se_ppv,
        f"sensitivity_at_specificity_{config.specificity:g}": at_specificity,
        "calibration_slope": calibration.calibration_slope,
        "calibration_intercept": calibration.calibration_intercept,
        "calibration_in_the_large": calibration.calibration_in_the_large,
    }
    for threshold in config.net_benefit_at:
        metrics[f"net_benefit_at_{threshold:g}"] = partial(operating.net_benefit, threshold=threshold)
    return metrics


def _at(threshold: float) -> Suite:
    return {
        "sensitivity": partial(operating.sensitivity, threshold=threshold),
        "specificity": partial(operating.specificity, threshold=threshold),
        "ppv": partial(operating.ppv, threshold=threshold),
        "f1": partial(operating.f1, threshold=threshold),
        "accuracy": partial(operating.accuracy_at, threshold=threshold),
    }


def _prevalence(prediction: Array, label: Array, weight: Array) -> Array:
    """The share of positive rows."""
    return weighted.weighted_mean(label == 1, weight)


def _of_event(metric: Any, event: int, until: Array, prediction: Array, label: Array, weight: Array) -> Array:
    labels = survival.label_of_event(label, event)
    return np.asarray(metric(prediction[:, event - 1], labels, weight, times=until))


def _over_targets(metric: WeightedMetric, prediction: Array, label: Array, weight: Array) -> Array:
    """The mean over the targets, where there are several."""
    if prediction.ndim == 2:
        return weighted.over_columns(metric, prediction, label, weight)
    return metric(prediction, label, weight)


def _at_temperature(
    metric: WeightedMetric, temperature: float, exclusive: bool, prob: Array, label: Array, weight: Array
) -> Array:
    """``exclusive``: the columns are classes of one softmax, and not labels of their own."""
    if exclusive:
        return metric(scaled(prob, temperature), label, weight)
    return metric(scaled(prob.ravel(), temperature).reshape(prob.shape), label, weight)
