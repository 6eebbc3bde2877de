"""Tables that others wrote, parquet or CSV: scanned lazily, with errors that name file, row and column.

A CSV file is read as text throughout, so that what is no number can be counted or named. Blanks around a
text are no part of it.
"""

from __future__ import annotations

import csv
import re
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
        what = str(error).strip().splitlines()[0]
        found = None if path.suffix == ".parquet" else fault_of_csv(path)
        remedy = found or "it is truncated, damaged or not what its name says. Write it again from its origin"
        raise ValueError(f"{path} cannot be read ({what}): {remedy}") from error


def fault_of_csv(path: Path) -> str | None:
    """What is wrong with a CSV file that could not be read, with its row (that of the header is 1)."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            width = len(next(rows, []))
            for row in rows:
                if len(row) > width:
                    return (
                        f"line {rows.line_num} has {len(row)} fields, the header {width}. Correct that line"
                    )
    except UnicodeDecodeError:
        return "its text is not UTF-8. Save it again with this encoding"
    except csv.Error as error:
        return f"line {rows.line_num}: {error}. Correct the quotes there"
    return None


def schema_of(path: Path) -> pl.Schema:
    """Columns and types.

    Raises as ``reading`` does, and ``ValueError`` for the header of a CSV file whose columns are separated by
    something else than commas, or that names one twice.
    """
    with reading(path):
        schema = scan(path).collect_schema()
    if path.suffix != ".parquet":
        _check_header(path, schema.names())
    return schema


def _check_header(path: Path, names: list[str]) -> None:
    for separator, what in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(names) == 1 and separator in names[0]:
            raise ValueError(f"{path}: its columns are separated by {what}: write it again with commas")
    if any("\N{REPLACEMENT CHARACTER}" in name for name in names):
        raise ValueError(f"{path}: its text is not UTF-8. Save it again with this encoding")
    for name in names:  # polars gives the second of two equal names such an ending
        if (twice := re.fullmatch(r"(.*)_duplicated_\d+", name)) and twice[1] in names:
            raise ValueError(f"{path}: the header names the column {twice[1]!r} twice: rename one of them")


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


def masked(given: object) -> str:
    """The form of a value without what it says.

    >>> masked("John, 24/12/1951")
    'aaaa, 99/99/9999'
    """
    return re.sub(r"[^\W\d_]", "a", re.sub(r"\d", "9", str(given)))


def refuse(rows: pl.DataFrame, bad: pl.Expr, path: Path, column: str, what: str) -> None:
    """Raise ``ValueError`` naming file, row (the first is 1) and column of the first row where ``bad``.

    Of its value only the form is said, as errors are passed on.

    ``rows`` has ``row`` (from 0) and ``given``, what the column held.
    """
    wrong = rows.filter(bad)
    if len(wrong):
        first = wrong.row(0, named=True)
        raise ValueError(
            f"{path}, row {first['row'] + 1}, column {column!r}: {masked(first['given'])!r} {what} "
            f"({len(wrong)} such rows; 9 is any digit, a any letter)"
        )
