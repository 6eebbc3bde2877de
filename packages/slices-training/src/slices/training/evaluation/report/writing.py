"""An evaluation as files with every number."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import polars as pl

from slices.training.config import plain
from slices.training.evaluation.report.config import EvaluateConfig
from slices.training.evaluation.report.curves import calibration_curves, decision_curves
from slices.training.evaluation.report.results import Comparison, Estimate, Evaluation
from slices.training.evaluation.report.text import report_markdown


def write_evaluation(evaluation: Evaluation, config: EvaluateConfig) -> Path:
    """``evaluation.json`` and ``.md``, ``metrics.csv``, ``comparisons.csv``; of a binary task the curves.

    Gives the folder, which is made where it is not there.
    """
    folder = Path(config.folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.md").write_text(report_markdown(evaluation), encoding="utf-8")
    metrics = _frame(Estimate, [*evaluation.estimates, *evaluation.gaps])
    comparisons = _frame(Comparison, evaluation.comparisons)
    metrics.write_csv(folder / "metrics.csv")
    comparisons.write_csv(folder / "comparisons.csv")
    summary: dict[str, Any] = {
        name: getattr(evaluation, name) for name in ("task", "task_type", "rows", "patients", "notes")
    }
    summary["settings"] = plain(config)
    summary["choices"] = {name: choice._asdict() for name, choice in evaluation.choices.items()}
    summary |= {"metrics": metrics.to_dicts(), "comparisons": comparisons.to_dicts()}
    (folder / "evaluation.json").write_text(json.dumps(_plain(summary), indent=1), encoding="utf-8")
    if evaluation.task_type == "binary":
        decision_curves(evaluation).write_csv(folder / "decision_curve.csv")
        calibration_curves(evaluation).write_csv(folder / "calibration_curve.csv")
    return folder


def _frame(kind: type[Estimate] | type[Comparison], rows: Sequence[Any]) -> pl.DataFrame:
    types = {str: pl.String, int: pl.Int64, float: pl.Float64, float | None: pl.Float64}
    return pl.DataFrame(
        rows, {name: types[hint] for name, hint in get_type_hints(kind).items()}, orient="row"
    )


def _plain(value: Any) -> Any:
    """NaN, which JSON does not know, is null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
