"""The files of a long table, what is in them by their metadata, and the buckets in which they are read."""

from __future__ import annotations

import glob
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import polars as pl

from slices.training.data.raw import files_under
from slices.training.data.sources.reading import (
    collect,
    is_text,
    masked,
    number,
    reading,
    refuse,
    require,
    scan,
    schema_of,
    text,
    whole,
)

from .clock import clock, no_time
from .config import TableColumns

ROWS = 2_000_000  # in one bucket, about, which bounds memory
MOST_NAMES = 2**15 - 1  # the place of a variable is kept in two bytes
TRIED = 1000  # rows in which a time that can be read is looked for
ROW = "row of the file"  # a name that no column has
SPREAD = 0x9E3779B97F4A7C15  # an odd number that spreads neighbouring ids


class Survey(NamedTuple):
    """The files, and how many rows each name of a variable has in them (None: rows without a name)."""

    files: tuple[Path, ...]
    rows_of: Mapping[str | None, int]

    @property
    def n_buckets(self) -> int:
        return max(1, math.ceil(sum(self.rows_of.values()) / ROWS))


class Bucket(NamedTuple):
    """Stays whose ids have one hash; rows without an id are in the first.

    ``copies`` are those of ``as_parquet``, which are read in place of their files.
    """

    number: int
    of: int
    copies: Mapping[Path, Path]

    def holds(self, stay: pl.Expr) -> pl.Expr:
        """Whether stay ids are in it."""
        spread = stay.reinterpret(signed=False) * pl.lit(SPREAD, pl.UInt64) // pl.lit(2**32, pl.UInt64)
        return (spread % self.of).fill_null(0) == self.number


def survey(raw: str, apart: Iterable[str | None], columns: TableColumns) -> Survey:
    """Look through the names in every file of the table, but for those set apart.

    Raises ``FileNotFoundError`` where there is none, ``ValueError`` for a file that is not such a table.
    """
    files = table_files(raw, apart)
    if not files:
        raise FileNotFoundError(f"no .parquet or .csv file at {raw}: set data.source.raw to the table")
    rows_of: dict[str | None, int] = {}
    for path in files:
        schema = schema_of(path)
        _check(path, schema, columns)
        names = scan(path).select(name=text(columns.variable)).group_by("name").len()
        for name, count in collect(path, names).iter_rows():
            rows_of[name] = rows_of.get(name, 0) + count
        if len(rows_of) > MOST_NAMES:
            raise ValueError(
                f"{path}: more than {MOST_NAMES:,} different names in the column {columns.variable!r}, as "
                f"{name!r}: set data.source.columns.variable to that of the names of variables"
            )
    return Survey(tuple(files), rows_of)


def table_files(raw: str, apart: Iterable[str | None]) -> list[Path]:
    """The files of the table, sorted, but for those set apart."""
    folder = Path(raw)
    inside = [p for p in files_under(folder) if p.suffix in (".parquet", ".csv")] if folder.is_dir() else []
    found = inside or [Path(path) for path in glob.glob(raw, recursive=True)] or [folder]
    others = {Path(path).resolve() for path in apart if path}
    return sorted(path for path in found if path.is_file() and path.resolve() not in others)


def as_parquet(files: Iterable[Path], folder: Path) -> dict[Path, Path]:
    """Copies in parquet of the CSV files, so that not every bucket parses them. Raises as ``reading``."""
    copies = {path: folder / f"{i}.parquet" for i, path in enumerate(files) if path.suffix != ".parquet"}
    for path, copy in copies.items():
        with reading(path):
            scan(path).sink_parquet(copy)
    return copies


def _check(path: Path, schema: pl.Schema, columns: TableColumns) -> None:
    for key in ("stay", "time", "variable", "value"):
        require(path, schema, [getattr(columns, key)], f"Set data.source.columns.{key} to its name")
    whole(path, schema, columns.stay)
    clock(path, schema, columns.time)
    _check_times(path, schema, columns.time)
    number(path, schema, columns.value)
    name = schema[columns.variable]
    if not (is_text(name) or name.is_integer() or name == pl.Null):
        raise ValueError(f"{path}: column {columns.variable!r} holds {name}, not names: convert it")


def _check_times(path: Path, schema: pl.Schema, column: str) -> None:
    """Raise ``ValueError`` where none of the first times can be read: they are in another format."""
    if not is_text(schema[column]):
        return
    given = scan(path).select(text(column).alias("given"), no_time(path, schema, column).alias("bad"))
    first = collect(path, given.filter(pl.col("given").is_not_null()).head(TRIED))
    if len(first) and first["bad"].all():
        raise ValueError(
            f"{path}: the times in the column {column!r} cannot be read, as {masked(first['given'][0])!r} (9 "
            "is any digit, a any letter): give numbers (of data.source.columns.time_unit), Durations, or "
            "timestamps as 2024-03-01 14:30 is"
        )


def read_bucket(path: Path, bucket: Bucket, stay: str, columns: Iterable[pl.Expr]) -> pl.DataFrame:
    """The rows of a bucket: ``row`` (in the file, from 0), ``stay_id`` and the columns.

    Raises ``ValueError`` naming file and row of a stay that is no whole number; a blank one is null.
    """
    schema = schema_of(path)
    given = pl.lit(None, pl.String) if schema[stay].is_integer() else text(stay).replace("NaN", None)
    number = whole(path, schema, stay)
    keys = (pl.col(ROW).alias("row"), number.alias("stay_id"), given.alias("given"))
    rows = scan(bucket.copies.get(path, path)).with_row_index(ROW).filter(bucket.holds(number))
    table = collect(path, rows.select(*keys, *columns))
    unread = pl.col("stay_id").is_null() & pl.col("given").is_not_null()
    refuse(table, unread, path, stay, "is no whole number: number the stays, the same in every file")
    return table.drop("given")
