"""From prediction files to estimates with intervals, comparisons and gaps between groups."""

from __future__ import annotations

from slices.training.evaluation.bootstrap import Predictions, metric_draws, percentile_interval
from slices.training.evaluation.report.alignment import Aligned, aligned_test_rows, predictions_of
from slices.training.evaluation.report.choices import Choice, choose
from slices.training.evaluation.report.comparisons import compared, too_few_resamples
from slices.training.evaluation.report.config import EvaluateConfig
from slices.training.evaluation.report.files import Contents, read_predictions
from slices.training.evaluation.report.gaps import gaps_of
from slices.training.evaluation.report.parts import OVERALL, Part, parts_of
from slices.training.evaluation.report.results import Draws, Estimate, Evaluation
from slices.training.evaluation.report.spread import spread_of
from slices.training.evaluation.report.suites import suite, suite_of_part, survival_suite


def evaluate(config: EvaluateConfig) -> Evaluation:
    """Judges the models of some prediction files on the test rows that they all have.

    Temperature and thresholds are chosen on each model's validation rows. Intervals are percentiles over
    resampled patients, the same draws for all models and groups.

    Raises:
        FileNotFoundError, ValueError: files, groups or a reference that cannot be.
    """
    contents = read_predictions(config.predictions, config.task_type, config.task_name)
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
        draws = _draws(run, parts, contents, choices[name], config)
        overall[name] = draws[OVERALL]
        estimates += _estimates(name, parts, draws, config)
        estimates += _estimates(name, *spread_of(run, aligned.quantiles[name], config), config)
        of_model, undefined = gaps_of(name, parts, draws, config.level)
        gaps += of_model
        notes += [note for note in undefined if note not in notes]  # the same of each model
    patients = aligned.about["patient_id"].n_unique()
    comparisons = compared(overall, aligned.models, contents.task_type, config)
    notes += too_few_resamples(config.n_resamples, len(comparisons))
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
        contents.until,
    )


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
    run: Predictions, parts: list[Part], contents: Contents, choice: Choice, config: EvaluateConfig
) -> Draws:
    """Every metric of every part, for the rows as they are and each resample of all patients."""
    task_type = contents.task_type
    if task_type == "survival":
        whole = survival_suite(contents.until, run.prediction.shape[1])
    else:
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
