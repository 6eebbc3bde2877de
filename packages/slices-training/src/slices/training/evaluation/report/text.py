"""An evaluation as tables: for the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from slices.training.evaluation.report.parts import OVERALL
from slices.training.evaluation.report.results import Comparison, Estimate, Evaluation
from slices.training.evaluation.report.suites import COMPARED, LOWER_IS_BETTER
from slices.training.report.cells import Table

Rows = Sequence[Sequence[str]]


def report_text(evaluation: Evaluation) -> str:
    """One line a model: the metrics that are compared, with their intervals."""
    head, *rows = _overview(evaluation)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join([title_of(evaluation), *lines, *(f"! {note}" for note in evaluation.notes)])


def report_markdown(evaluation: Evaluation) -> str:
    """Overview, all metrics, comparisons, groups, gaps and what was chosen."""
    parts = [f"# {title_of(evaluation)}", *(f"- {note}" for note in evaluation.notes)]
    parts += [f"\n## {table.title}\n\n{_markdown(table)}" for table in tables_of(evaluation)]
    return "\n".join(parts) + "\n"


def tables_of(evaluation: Evaluation) -> list[Table]:
    """What there is to say, in tables; none is empty."""
    everything = [e for e in evaluation.estimates if (e.grouping, e.group) == OVERALL]
    groups = [e for e in evaluation.estimates if (e.grouping, e.group) != OVERALL]
    tables = [
        _table("Models", 1, _overview(evaluation)),
        _table("All metrics", 1, _pivot(everything, lambda e: (e.metric,), ("metric",))),
        _table("Comparisons", 3, [_COMPARED, *map(_comparison, evaluation.comparisons)]),
        _table(
            "Groups", 4, _pivot(groups, lambda e: (e.grouping, e.group, str(e.patients), e.metric), _GROUPED)
        ),
        _table("Gaps between groups", 2, _pivot(evaluation.gaps, lambda e: (e.grouping, e.metric), _GAPS)),
        _table("Chosen on validation rows", 1, [_CHOSEN, *_chosen(evaluation)]),
    ]
    return [table for table in tables if table.rows]


def _table(title: str, words: int, rows: Rows) -> Table:
    head, *body = map(tuple, rows)
    return Table(title, "", head, body, words)


_GROUPED = ("grouping", "group", "patients", "metric")
_COMPARED = ("metric", "model", "less", "difference", "p", "p (Holm)", "p (DeLong)")
_GAPS = ("grouping", "gap")
_CHOSEN = ("model", "temperature", "thresholds")


def title_of(evaluation: Evaluation) -> str:
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
    return [
        ("model", *map(_named, metrics)),
        *((model, *(found[model, m] for m in metrics)) for model in models),
    ]


def _named(metric: str) -> str:
    """An arrow where less is better."""
    return f"{metric} ↓" if metric in LOWER_IS_BETTER else metric


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
    delong = "" if of.p_delong is None else f"{of.p_delong:.3g}"
    return _named(of.metric), of.model, of.other, difference, f"{of.p:.3g}", f"{of.p_holm:.3g}", delong


def _chosen(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    def shown(value: float | None) -> str:
        return "none" if value is None else f"{value:.4g}"

    return [
        (name, shown(choice.temperature), ", ".join(map(shown, choice.thresholds)))
        for name, choice in evaluation.choices.items()
    ]


def _markdown(table: Table) -> str:
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"
