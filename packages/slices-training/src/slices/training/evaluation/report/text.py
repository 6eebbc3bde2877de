"""An evaluation as tables: for the terminal, as Markdown, and as files with every number."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import polars as pl

from slices.training.evaluation import operating
from slices.training.evaluation.bootstrap import Array
from slices.training.evaluation.calibration import calibration_curve
from slices.training.evaluation.report.build import Comparison, Estimate, Evaluation
from slices.training.evaluation.report.parts import OVERALL
from slices.training.evaluation.report.suites import COMPARED

THRESHOLDS = np.arange(1, 100) / 100  # of the decision curve

Rows = Sequence[Sequence[str]]


def report_text(evaluation: Evaluation) -> str:
    """One line a model: the metrics that are compared, with their intervals."""
    head, *rows = _overview(evaluation)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join([_title(evaluation), *lines, *(f"! {note}" for note in evaluation.notes)])


def report_markdown(evaluation: Evaluation) -> str:
    """Overview, all metrics, comparisons, groups, gaps and what was chosen."""
    everything = [e for e in evaluation.estimates if (e.grouping, e.group) == OVERALL]
    groups = [e for e in evaluation.estimates if (e.grouping, e.group) != OVERALL]
    sections = [
        ("Models", _overview(evaluation)),
        ("All metrics", _pivot(everything, lambda e: (e.metric,), ("metric",))),
        ("Comparisons", [_COMPARED, *map(_comparison, evaluation.comparisons)]),
        (
            "Groups",
            _pivot(groups, lambda e: (e.grouping, e.group, str(e.patients), e.metric), _GROUPED),
        ),
        (
            "Gaps between groups",
            _pivot(evaluation.gaps, lambda e: (e.grouping, e.metric), _GAPS),
        ),
        ("Chosen on validation rows", [_CHOSEN, *_chosen(evaluation)]),
    ]
    parts = [f"# {_title(evaluation)}", *(f"- {note}" for note in evaluation.notes)]
    parts += [f"\n## {name}\n\n{_markdown(rows)}" for name, rows in sections if len(rows) > 1]
    return "\n".join(parts) + "\n"


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """``evaluation.json`` and ``.md``, ``metrics.csv``, ``comparisons.csv``; of a binary task the curves."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.md").write_text(report_markdown(evaluation), encoding="utf-8")
    metrics = _frame(Estimate, [*evaluation.estimates, *evaluation.gaps])
    comparisons = _frame(Comparison, evaluation.comparisons)
    metrics.write_csv(folder / "metrics.csv")
    comparisons.write_csv(folder / "comparisons.csv")
    summary: dict[str, Any] = {
        name: getattr(evaluation, name) for name in ("task", "task_type", "rows", "patients", "notes")
    }
    summary["choices"] = {name: choice._asdict() for name, choice in evaluation.choices.items()}
    summary |= {"metrics": metrics.to_dicts(), "comparisons": comparisons.to_dicts()}
    (folder / "evaluation.json").write_text(json.dumps(_plain(summary), indent=1), encoding="utf-8")
    if evaluation.task_type == "binary":
        _decision_curves(evaluation).write_csv(folder / "decision_curve.csv")
        _calibration_curves(evaluation).write_csv(folder / "calibration_curve.csv")


_GROUPED = ("grouping", "group", "patients", "metric")
_COMPARED = ("metric", "model", "less", "difference", "p", "p (Holm)")
_GAPS = ("grouping", "gap")
_CHOSEN = ("model", "temperature", "thresholds")


def _title(evaluation: Evaluation) -> str:
    rows = f"{evaluation.rows:,} test rows of {evaluation.patients:,} patients"
    return f"{evaluation.task} ({evaluation.task_type}): {rows}"


def _overview(evaluation: Evaluation) -> Rows:
    shown = [
        e
        for e in evaluation.estimates
        if (e.grouping, e.group) == OVERALL and e.metric in COMPARED[evaluation.task_type]
    ]
    metrics = list(dict.fromkeys(e.metric for e in shown))
    found = {(e.model, e.metric): _interval(e) for e in shown}
    models = dict.fromkeys(e.model for e in shown)
    return [("model", *metrics), *((model, *(found[model, m] for m in metrics)) for model in models)]


def _pivot(estimates: Iterable[Estimate], key: Any, names: Sequence[str]) -> Rows:
    """A row a key, a column a model."""
    models: dict[str, None] = {}
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for estimate in estimates:
        models[estimate.model] = None
        rows.setdefault(key(estimate), {})[estimate.model] = _interval(estimate)
    return [(*names, *models), *((*row, *(cells.get(m, "") for m in models)) for row, cells in rows.items())]


def _interval(of: Estimate) -> str:
    return f"{of.estimate:.4f} [{of.low:.3f}, {of.high:.3f}]"


def _comparison(of: Comparison) -> tuple[str, ...]:
    difference = f"{of.difference:+.4f} [{of.low:+.3f}, {of.high:+.3f}]"
    return of.metric, of.model, of.other, difference, f"{of.p:.3g}", f"{of.p_holm:.3g}"


def _chosen(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    def shown(value: float | None) -> str:
        return "none" if value is None else f"{value:.4g}"

    return [
        (name, shown(choice.temperature), ", ".join(map(shown, choice.thresholds)))
        for name, choice in evaluation.choices.items()
    ]


def _markdown(rows: Rows) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _frame(kind: type[Estimate] | type[Comparison], rows: Sequence[Any]) -> pl.DataFrame:
    types = {str: pl.String, int: pl.Int64, float: pl.Float64}
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


def _decision_curves(evaluation: Evaluation) -> pl.DataFrame:
    """Net benefit of each model at each threshold, and of treating everybody (nobody is 0)."""
    curves = []
    for name, run in evaluation.tested.items():
        everybody = np.ones_like(run.prediction)
        curves.append(
            pl.DataFrame(
                {
                    "model": [name] * len(THRESHOLDS),
                    "threshold": THRESHOLDS,
                    "net_benefit": _benefits(run.prediction, run.label),
                    "everybody": _benefits(everybody, run.label),
                }
            )
        )
    return pl.concat(curves)


def _benefits(prob: Array, label: Array) -> list[float]:
    weight = np.ones((1, len(label)))
    return [float(operating.net_benefit(prob, label, weight, threshold=t)[0]) for t in THRESHOLDS]


def _calibration_curves(evaluation: Evaluation) -> pl.DataFrame:
    return pl.concat(
        pl.DataFrame(calibration_curve(run.prediction, run.label)._asdict()).with_columns(model=pl.lit(name))
        for name, run in evaluation.tested.items()
    )
