"""From cells to a table: means over draws, seeds and folds, with intervals by patient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slices.training.benchmark.blends import blend_rows, models_of
from slices.training.benchmark.cells import Cell, Unit, cells, units
from slices.training.benchmark.config import BenchmarkConfig
from slices.training.benchmark.rows import BASELINE, BLEND, NONE, Row, RowKey, Spent, short_name
from slices.training.benchmark.work import read_cell
from slices.training.evaluation import weighted
from slices.training.evaluation.bootstrap import (
    Interval,
    aligned,
    metric_draws,
    percentile_interval,
)
from slices.training.evaluation.report.suites import LOWER_IS_BETTER
from slices.training.report.cells import Table

ABOUT = """\
Brackets: 95 % intervals, test patients resampled; draws of labels and seeds are taken as they are, which
makes those of few draws too narrow. Bold: a paired difference whose interval leaves out 0. Minutes: of the
processor, own + shared by several models (elapsed, where there is a GPU); GB: the most that a model's process
had taken by then. Transductive: pretrained on the inputs of the test stays too. All settings of each row are
in `recipe.json`. Made by"""
Array = NDArray[np.float64]
Metric = Callable[..., Any]
SCORES: dict[str, dict[str, Metric]] = {
    "binary": {"auroc": weighted.auroc, "auprc": weighted.auprc},
    "multiclass": {"auroc": weighted.auroc, "auprc": weighted.auprc},
    "multilabel": {"auroc": weighted.auroc, "auprc": weighted.auprc},
    "regression": {"mae": weighted.mae, "r2": weighted.r2},
}


def league(config: BenchmarkConfig) -> pl.DataFrame:
    """A line per fraction, encoder, objective and adaptation.

    Each metric comes with its 95 % interval, and with paired differences on the same stays and labels:
    to the same encoder trained from scratch (``_vs_scratch``), to the best baseline of the same
    fraction by the first metric (``_vs_baseline``) and, where there are several, to each by its name.
    Costs are means of the cells' (``Spent``).
    """
    rows = _rows(config)
    scores = SCORES[str(config.task.task_type)]
    lines = []
    for fraction in sorted(config.label_fractions, reverse=True):
        lines += _lines({key: row for key, row in rows.items() if key[0] == fraction}, scores, config)
    return pl.DataFrame(lines, infer_schema_length=None)


def _lines(
    rows: dict[RowKey, Row], scores: dict[str, Metric], config: BenchmarkConfig
) -> list[dict[str, Any]]:
    """Those of one fraction. The same patients are drawn for all rows, each scored once for each draw."""
    draws = _draws(rows, scores)
    first = next(iter(scores))
    best = min if first in LOWER_IS_BETTER else max
    baselines = [key for key in rows if key[2] == BASELINE]
    baseline = best(baselines, key=lambda key: draws[key][first][0], default=None)
    lines = []
    for key in sorted(rows, key=lambda key: key[1:]):
        fraction, encoder, objective, adaptation = key
        row = rows[key]
        line: dict[str, Any] = {
            "labels": fraction,
            "encoder": encoder,
            "objective": objective,
            "adaptation": adaptation,
            "transductive": _is_transductive(key, config),
            "runs": len(row.runs),
            "minutes": row.spent.seconds / 60,
            "shared_minutes": row.spent.shared / 60,
            "parameters": round(row.spent.parameters),
            "memory_gb": row.spent.memory,
        }
        others = {"scratch": _scratch(key, rows, config), "baseline": baseline}
        others |= {one[1]: one for one in baselines if len(baselines) > 1}
        for name in scores:
            line |= _columns(name, percentile_interval(draws[key][name]))
            for suffix, other in others.items():
                if other in rows and other != key:
                    paired = draws[key][name] - draws[other][name]
                    line |= _columns(f"{name}_vs_{suffix}", percentile_interval(paired))
        lines.append(line)
    return lines


def _is_transductive(key: RowKey, config: BenchmarkConfig) -> bool:
    """Was the row, or one that it is the mean of, pretrained on the inputs of the test stays too?"""
    models = models_of(key[1], config.blends) if key[2] == BLEND else {short_name(key)}
    return any(model.split("+")[1] in config.transductive for model in models if "+" in model)


def _scratch(key: RowKey, rows: Mapping[RowKey, Row], config: BenchmarkConfig) -> RowKey | None:
    """The same encoder from scratch: the same way, where that is fine-tuning, else the first there is.

    Of as many members, or averaging would pass for what pretraining gains.
    """
    fraction, encoder, _, adaptation = key
    ways = [way for way in (adaptation, *config.adaptations) if config.registered(way) == "finetune"]
    there = ((fraction, encoder, NONE, way) for way in ways)
    members = _members(key, config)
    return next((one for one in there if one in rows and _members(one, config) == members), None)


def _members(key: RowKey, config: BenchmarkConfig) -> int:
    fraction, encoder, objective, adaptation = key
    return config.members(Cell(Unit(encoder, objective, config.seeds[0], 0), adaptation, fraction, 0))


def _draws(rows: dict[RowKey, Row], scores: dict[str, Metric]) -> dict[RowKey, dict[str, Array]]:
    """Each metric of each row, averaged over its runs: ``(1 + R,)``, as it is and of each resample.

    Raises:
        ValueError: the k-th runs of two rows differ in stays, patients or labels.
    """
    first = next(iter(rows.values()))
    for key, row in rows.items():
        try:
            for one, other in zip(row.runs, first.runs, strict=True):
                aligned(one, other)
        except ValueError as error:
            raise ValueError(f"{short_name(key)}: {error}") from error
    runs = {(key, k): run for key, row in rows.items() for k, run in enumerate(row.runs)}
    drawn = metric_draws(scores, runs)
    return {
        key: {name: np.mean([drawn[key, k][name] for k in range(len(row.runs))], axis=0) for name in scores}
        for key, row in rows.items()
    }


def _rows(config: BenchmarkConfig) -> dict[RowKey, Row]:
    members: dict[RowKey, list[Cell]] = defaultdict(list)
    for unit in units(config):
        for cell in cells(config, unit):
            members[cell.row].append(cell)
    rows = {key: _row(config, of_row) for key, of_row in members.items()}
    task_type = config.task.task_type
    assert task_type is not None
    return rows | blend_rows(rows, config.blends, len(config.seeds), task_type)


def _row(config: BenchmarkConfig, members: list[Cell]) -> Row:
    """Baselines have no seed: their runs stand for every seed, so that all rows pair up."""
    ordered = sorted(members, key=lambda cell: (cell.unit.seed, cell.unit.fold, cell.draw))
    read = [read_cell(config, cell) for cell in ordered]
    repeats = len(config.seeds) if members[0].unit.objective == BASELINE else 1
    runs = [predictions for predictions, _ in read] * repeats
    return Row(runs, Spent(*np.mean([spent for _, spent in read], axis=0).tolist()))


def best_score(table: pl.DataFrame) -> float:
    """The best of the table by its first metric."""
    name = table.columns[table.columns.index("memory_gb") + 1]
    best = table[name].min() if name in LOWER_IS_BETTER else table[name].max()
    return float(best)  # type: ignore[arg-type]


def _columns(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}


def write_league(table: pl.DataFrame, folder: Path, made_by: str) -> str:
    """``league.csv`` with every number and ``league.md`` for people; gives the latter's table."""
    table.write_csv(folder / "league.csv")
    text = markdown(table)
    (folder / "league.md").write_text(f"{text}\n{ABOUT}\n\n    {made_by}\n", encoding="utf-8")
    return text


def markdown(table: pl.DataFrame) -> str:
    """The table with intervals in brackets; a difference whose interval leaves out 0 is bold."""
    shown = shown_table(table, bold="**{}**")
    lines = [shown.columns, ["---"] * len(shown.columns), *shown.rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def shown_table(table: pl.DataFrame, bold: str = "{}") -> Table:
    """What people see of the table; ``bold``: how a difference is set whose interval leaves out 0."""
    metrics = [name.removesuffix("_low") for name in table.columns if name.endswith("_low")]
    baselines = table.filter(objective=BASELINE)["encoder"].unique()
    metrics = [name for name in metrics if name.partition("_vs_")[2] not in baselines]
    head = ("labels", "encoder", "objective", "adaptation", "runs", "minutes", "parameters", "GB", *metrics)
    rows = [
        (*_about(row), *(_shown(row, metric, bold) for metric in metrics))
        for row in table.iter_rows(named=True)
    ]
    return Table("League", "", head, rows, words=4)


def _about(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"{100 * row['labels']:g} %",
        row["encoder"],
        f"{row['objective']} (transductive)" if row["transductive"] else row["objective"],
        row["adaptation"],
        str(row["runs"]),
        f"{row['minutes']:.2f} + {row['shared_minutes']:.1f}",
        f"{row['parameters']:,}" if row["parameters"] else "",
        f"{row['memory_gb']:.1f}",
    )


def _shown(row: dict[str, Any], metric: str, bold: str) -> str:
    value, low, high = row[metric], row[f"{metric}_low"], row[f"{metric}_high"]
    if value is None:
        return ""
    if "_vs_" not in metric:
        return f"{value:.4f} [{low:.3f}, {high:.3f}]"
    text = f"{value:+.4f} [{low:+.3f}, {high:+.3f}]"
    return bold.format(text) if low > 0 or high < 0 else text
