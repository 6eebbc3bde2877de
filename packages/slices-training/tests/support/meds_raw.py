"""MEDS datasets written by tests."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from slices.training.data import StayStore, build_source, prepare_dataset
from stored import counts

START = datetime(2150, 1, 1)
SCHEMA = {
    "subject_id": pl.Int64,
    "time": pl.Datetime("us"),
    "code": pl.String,
    "numeric_value": pl.Float32,
    "text_value": pl.String,
}
MAPPING = """
hr: [HR//*]
temp: [TEMP//C, {code: TEMP//F, factor: 0.5, offset: -10}]
tgcs: {sum: [EYES, VERBAL, MOTOR]}
urine: {code: "OUT//*"}
vent_ind: {code: VENT, value: 1}
age: {code: MEDS_BIRTH, value: age}
sex: [{code: SEX//F, value: 0}, {code: SEX//M, value: 1}]
weight: [WEIGHT, {code: POUNDS, factor: 0.5}]
"""


def at(hours: float | None) -> datetime | None:
    return None if hours is None else START + timedelta(hours=hours)


def rows(*given: tuple[int | None, float | None, str | None, float | None]) -> pl.DataFrame:
    """Rows of a MEDS file, times in hours."""
    return pl.DataFrame(
        [(subject, at(hours), code, value, None) for subject, hours, code, value in given],
        SCHEMA,
        orient="row",
    )


def stay(subject: int, start: float, end: float) -> list[tuple[int, float, str, None]]:
    return [(subject, start, "IN//x", None), (subject, end, "OUT_OF//x", None)]


class Meds:
    """A dataset on disk, and what is prepared from it."""

    def __init__(self, folder: Path) -> None:
        self.raw, self.folder = folder / "raw", folder
        self.mapping = folder / "mapping.yaml"
        self.mapping.write_text(MAPPING)
        self.n_prepared = 0

    def write(self, table: pl.DataFrame, file: str = "data/train/0.parquet") -> Path:
        path = self.raw / file
        path.parent.mkdir(parents=True, exist_ok=True)
        table.write_parquet(path)
        return path

    def prepare(self, jobs: int = 1, **options: Any) -> StayStore:
        stays = {"start": "IN//*", "end": "OUT_OF//*"}
        given = {"name": "meds", "raw": str(self.raw), "mapping": str(self.mapping), "stays": stays}
        self.n_prepared += 1
        source = build_source(given | options)
        return prepare_dataset(source, self.folder / f"dataset-{self.n_prepared}", jobs=jobs)


def drops(store: StayStore) -> dict[str, int]:
    """How often each rule applied, but for stays without a split."""
    return {rule: count for rule, count in counts(store).items() if rule != "no_split"}


LABELS = {
    "subject_id": pl.Int64,
    "prediction_time": pl.Datetime("us"),
    "boolean_value": pl.Boolean,
    "integer_value": pl.Int64,
    "float_value": pl.Float64,
    "categorical_value": pl.String,
}


def labels(*given: tuple[int, float | None, Any], column: str = "boolean_value") -> pl.DataFrame:
    """Rows of a label table, times in hours."""
    plain = [{"subject_id": s, "prediction_time": at(hours), column: value} for s, hours, value in given]
    return pl.DataFrame(plain, LABELS)


RECORD = rows(
    *(*stay(7, 10, 40), *stay(9, 0, 5), (7, None, "SEX//F", None), (7, 5.0, "WEIGHT", 70.0)),
    *((7, 11.0, "HR//x", 80.0), (7, 11.0, "HR//y", 82.0), (7, 12.0, "HR//x", 81.0), (9, 1.0, "HR//x", 90.0)),
    *((7, 11.0, "EYES", 4.0), (7, 11.0, "VERBAL", 5.0), (7, 11.0, "MOTOR", 6.0)),
)
