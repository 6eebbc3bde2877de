"""Tables that others wrote, parquet or CSV: scanned lazily, with errors that name file, row and column.

A CSV file is read as text throughout, so that what is no number can be counted or named. Blanks around a
text are no part of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from slices.encoders.registry import unknown

EXACT = 2**53  # whole numbers up to here are exact as floats


def scan(path: Path) -> pl.LazyFrame:
    """The table in a file, not read yet."""
    return pl.scan_parquet(path) if path.suffix == ".parquet" else pl.scan_csv(path, infer_schema=False)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise ``FileNotFoundError`` for a file that is not there, and for whatever goes wrong in reading it
    ``ValueError`` naming it."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: set data.source to where it is")
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise ValueError(
            f"{path} cannot be read ({str(error).strip().splitlines()[0]}): it is truncated, damaged or not "
            "what its name says. Write it again from its origin"
        ) from error


def schema_of(path: Path) -> pl.Schema:
    """Columns and types. Raises as ``reading`` does."""
    with reading(path):
        return scan(path).collect_schema()


def collect(path: Path, rows: pl.LazyFrame) -> pl.DataFrame:
    """Rows of a file. Raises as ``reading`` does."""
    with reading(path):
        return rows.collect()


def require(path: Path, schema: pl.Schema, columns: Iterable[str], remedy: str) -> None:
    """Raise ``ValueError`` for the first of the columns that a file lacks, with the nearest it has."""
    for column in columns:
        if column not in schema:
            raise ValueError(f"{path}: {unknown('column', column, schema)}. {remedy}")


def is_text(dtype: pl.DataType) -> bool:
    """Whether a column holds text, however it is encoded."""
    return isinstance(dtype, pl.String | pl.Categorical | pl.Enum)


def text(column: str) -> pl.Expr:
    """A column as text without blanks around it; what is blank is null."""
    stripped = pl.col(column).cast(pl.String).str.strip_chars()
    return pl.when(stripped != "").then(stripped)


def whole(path: Path, schema: pl.Schema, column: str) -> pl.Expr:
    """A column of whole numbers as Int64; null for what is none. Raises ``ValueError`` for another type."""
    dtype, values = schema[column], pl.col(column)
    if dtype.is_integer() or dtype == pl.Null:
        return values.cast(pl.Int64, strict=False)
    if not (is_text(dtype) or dtype.is_float()):
        raise wrong_type(path, schema, column, "whole numbers")
    number = (text(column) if is_text(dtype) else values).cast(pl.Float64, strict=False)
    exact = (number == number.round()) & (number.abs() <= EXACT)
    rounded = pl.when(exact).then(number).cast(pl.Int64, strict=False)
    return pl.coalesce(text(column).cast(pl.Int64, strict=False), rounded) if is_text(dtype) else rounded


def number(path: Path, schema: pl.Schema, column: str) -> pl.Expr:
    """A column as Float64; null for text that is no number. Raises ``ValueError`` for another type."""
    dtype = schema[column]
    if is_text(dtype):
        return text(column).cast(pl.Float64, strict=False)
    if not (dtype.is_numeric() or dtype in (pl.Boolean, pl.Null)):
        raise wrong_type(path, schema, column, "numbers")
    return pl.col(column).cast(pl.Float64)


def hours(
    path: Path, schema: pl.Schema, column: str, wanted: str = "a Duration, or hours as a number"
) -> pl.Expr:
    """A Duration, or hours as a number, in hours; NaN is null. Raises ``ValueError`` for another type."""
    dtype = schema[column]
    if isinstance(dtype, pl.Duration):
        return pl.col(column).dt.total_microseconds() / 3.6e9
    if not (dtype.is_numeric() or dtype == pl.Null):
        raise wrong_type(path, schema, column, wanted)
    return pl.col(column).cast(pl.Float64).fill_nan(None)


def wrong_type(path: Path, schema: pl.Schema, column: str, wanted: str) -> ValueError:
    """What to raise for a column of another type than is wanted."""
    return ValueError(f"{path}: column {column!r} holds {schema[column]}, not {wanted}: convert it")


def refuse(rows: pl.DataFrame, bad: pl.Expr, path: Path, column: str, what: str) -> None:
    """Raise ``ValueError`` naming file, row (the first is 1) and value of the first row where ``bad``.

    ``rows`` has ``row`` (from 0) and ``given``, what the column held.
    """
    wrong = rows.filter(bad)
    if len(wrong):
        first = wrong.row(0, named=True)
        raise ValueError(
            f"{path}, row {first['row'] + 1}, column {column!r}: {first['given']!r} {what} "
            f"({len(wrong)} such rows)"
        )
