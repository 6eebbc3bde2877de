"""The report of a benchmark."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from slices.training.benchmark.config import BenchmarkConfig
from slices.training.benchmark.plot import league_figures
from slices.training.benchmark.table import ABOUT, shown_table
from slices.training.report.facts import software, typed
from slices.training.report.page import Page, Section

MARK = "*"  # where Markdown has bold


def benchmark_page(table: pl.DataFrame, config: BenchmarkConfig, overrides: Sequence[str]) -> Page:
    """The page of a table as ``league`` gives it; ``overrides`` are what was typed."""
    task = config.task.task_name
    facts = {
        "command": typed("benchmark", overrides),
        "task": f"{task} ({config.task.task_type})",
        "data": config.data.dataset_dir,
        "seeds": ", ".join(map(str, config.seeds)),
        **software(),
    }
    note = " ".join(ABOUT.removesuffix("Made by").replace("`", "").replace("Bold", MARK).split())
    league = Section("League", note, tuple(league_figures(table)), (shown_table(table, f"{{}} {MARK}"),))
    return Page(f"Benchmark: {task}", facts, (league,))
