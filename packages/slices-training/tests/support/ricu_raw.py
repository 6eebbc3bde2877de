"""The hourly tables of ricu as tests write them, and the dataset made of them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from slices.training.data import StayStore, build_source, prepare_dataset

HOUR = timedelta(hours=1)
Tables = dict[str, pl.DataFrame]


def hourly_tables() -> Tables:
    """Two stays of three and two hours, and a third without a row; labels every hour."""
    times = pl.Series([0 * HOUR, HOUR, 2 * HOUR, 0 * HOUR, HOUR], dtype=pl.Duration("ms"))
    stay = pl.Series([1, 1, 1, 2, 2], dtype=pl.Int32)
    dyn = {"hr": [80.0, None, 90.0, 70.0, 71.0], "lact": [None, 1.5, None, None, 2.0]}
    sta = {"stay_id": [1, 2, 3], "age": [60.0, 70.0, None], "sex": ["Male", "Female", None]}
    return {
        "dyn": pl.DataFrame({"stay_id": stay, "time": times, **dyn}),
        "sta": pl.DataFrame(sta),
        "outc": pl.DataFrame({"stay_id": stay, "time": times, "label": [False, False, True, False, False]}),
    }


class Ricu:
    """A folder of the three tables, and the dataset made of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.raw = folder, folder / "raw"
        self.raw.mkdir(parents=True)

    def write(self, tables: Tables) -> None:
        for name, table in tables.items():
            table.write_parquet(self.raw / f"{name}.parquet")

    def options(self, **options: Any) -> dict[str, Any]:
        return {"name": "ricu", "raw": str(self.raw)} | options

    def prepare(self, **options: Any) -> StayStore:
        return prepare_dataset(build_source(self.options(**options)), self.folder / "dataset", overwrite=True)

    def prepared(self, **changes: pl.DataFrame) -> StayStore:
        self.write(hourly_tables() | changes)
        return self.prepare()


def with_rows(table: pl.DataFrame, *rows: tuple[Any, ...]) -> pl.DataFrame:
    return pl.concat([table, pl.DataFrame(rows, table.schema, orient="row")])
