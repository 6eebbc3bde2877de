"""Tables of rows as tests write them, and the dataset made of them."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

import stored
from slices.training.data import StayStore, build_source, prepare_dataset

ROWS = {
    "stay_id": [2, 1, 1, 1, 2],
    "time": [0.5, 3.0, 0.0, 1.5, 4.0],
    "variable": ["hr", "lact", "hr", "hr", "hr"],
    "value": [70.0, 2.5, 80.0, 81.0, 72.0],
}
EVENTS = [
    (1, 0.0, "hr", 80.0),
    (1, 1.5, "hr", 81.0),
    (1, 3.0, "lact", 2.5),
    (2, 0.5, "hr", 70.0),
    (2, 4.0, "hr", 72.0),
]


class Table:
    """A folder of raw files, and the dataset made of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.raw = folder, folder / "raw"
        self.raw.mkdir()

    def rows(self, table: pl.DataFrame | None = None, name: str = "rows.parquet") -> None:
        self.write(self.raw / name, pl.DataFrame(ROWS) if table is None else table)

    def file(self, name: str, content: dict[str, Any]) -> str:
        path = self.folder / name
        self.write(path, pl.DataFrame(content))
        return str(path)

    @staticmethod
    def write(path: Path, table: pl.DataFrame) -> None:
        table.write_csv(path) if path.suffix == ".csv" else table.write_parquet(path)

    def prepare(self, **options: Any) -> StayStore:
        source = build_source({"name": "table", "raw": str(self.raw), "min_category": 1} | options)
        return prepare_dataset(source, self.folder / "dataset", overwrite=True)


def events(store: StayStore) -> list[stored.Event]:
    """In one order, however they are stored."""
    return sorted(stored.events(store))


ADMISSION = {1: datetime(2024, 3, 1, 12, 0), 2: datetime(2024, 3, 30, 23, 30)}  # 2 spans a change to summer


def stamped() -> pl.DataFrame:
    stamps = [
        ADMISSION[stay] + timedelta(hours=time)
        for stay, time in zip(ROWS["stay_id"], ROWS["time"], strict=True)
    ]
    return pl.DataFrame(ROWS).with_columns(time=pl.Series(stamps))


TASKS: dict[str, Any] = {
    "died": {"task_type": "binary"},
    "los": {"task_type": "regression"},
    "unwell": {"task_type": "multiclass", "classes": ["no", "a bit", "much"], "per_step": True},
    "failure": {"task_type": "multilabel", "classes": ["renal", "liver"]},
}


def labels(*rows: tuple[Any, ...]) -> dict[str, list[Any]]:
    columns = ("task", "stay_id", "prediction_time", "value", "column")
    return {name: list(column) for name, column in zip(columns, zip(*rows, strict=True), strict=True)}
