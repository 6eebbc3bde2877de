"""Static variables from a table with one row a stay: numbers as they are, texts one column a category."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from slices.training.data.cleaning import sift
from slices.training.data.schema import EVENT_SCHEMA, Tally, Variable
from slices.training.data.sources.reading import collect, is_text, number, scan, text

log = logging.getLogger(__name__)
SEX = {"male": 1.0, "m": 1.0, "female": 0.0, "f": 0.0}
MOST_CATEGORIES = 50
PREFIX = "static "


class Static(NamedTuple):
    """A column of the table, and the variables it gives: itself, or one for each of its categories."""

    column: str
    categories: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its variables.

        >>> Static("adm", ("med", "surg")).names
        ('adm_med', 'adm_surg')
        """
        return tuple(f"{self.column}_{category}" for category in self.categories) or (self.column,)


def find_statics(
    path: Path,
    schema: pl.Schema,
    columns: Iterable[str],
    vocabulary: Mapping[str, Variable],
    min_category: int = 1,
) -> tuple[Static, ...]:
    """What each column gives; the categories of a text are looked up in the file.

    Those of fewer than ``min_category`` stays get no variable, whose name would tell of single patients.

    A text is taken as numbers where the vocabulary has a variable of the column's name, or where at least
    half of its different values read as numbers ("> 89" among ages is then left out, and counted). Raises
    ``ValueError`` for a text of more than ``MOST_CATEGORIES`` values, and for a column that is neither text
    nor numbers.
    """
    found = []
    for column in columns:
        number(path, schema, column)  # refuses what is neither
        categories = None
        if is_text(schema[column]) and column not in {"sex", *vocabulary}:
            categories = _categories(path, column, min_category)
        if categories != ():
            found.append(Static(column, categories or ()))
    return tuple(found)


def _categories(path: Path, column: str, min_category: int) -> tuple[str, ...] | None:
    """Those of a text, in their order; None where most of its values are numbers."""
    counted = scan(path).group_by(text(column)).len(PREFIX).drop_nulls().sort(column)
    values = collect(path, counted)
    if 2 * values[column].cast(pl.Float64, strict=False).null_count() <= len(values):
        return None
    common = values.filter(pl.col(PREFIX) >= min_category)[column]
    if len(common) > MOST_CATEGORIES:
        raise ValueError(
            f"{path}: the text column {column!r} has {len(common)} different values; at most "
            f"{MOST_CATEGORIES} become variables. Remove it, or group them"
        )
    if rare := len(values) - len(common):
        log.info(
            "%s: %d categories of %r, of fewer than %d stays, left out", path, rare, column, min_category
        )
    return tuple(common)


def with_known(static: Static, vocabulary: Mapping[str, Variable]) -> Static:
    """The same with the categories that a vocabulary has besides, as statics named ``<column>_<category>``.

    So that a file in which one is absent says so: 0, not unobserved.
    """
    prefix = f"{static.column}_"
    known = {name for name, variable in vocabulary.items() if variable.static and name.startswith(prefix)}
    if not static.categories:
        return static
    return Static(
        static.column, tuple(sorted({*static.categories, *(n.removeprefix(prefix) for n in known)}))
    )


def raw_statics(statics: Sequence[Static]) -> list[pl.Expr]:
    """Their columns, under names that clash with no other."""
    return [pl.col(static.column).alias(PREFIX + static.column) for static in statics]


def static_events(
    path: Path,
    stays: pl.DataFrame,
    statics: Sequence[Static],
    position: Mapping[str, int],
    tally: Tally,
    sentinels: Sequence[float] = (),
) -> pl.DataFrame:
    """Events at time 0, from stays with ``stay_id``, ``set`` and ``raw_statics``.

    What is missing (null, NaN or a blank text) was not observed; what cannot be read, and sentinels, are
    counted.
    """
    tables = [EVENT_SCHEMA.to_frame()]
    for static in statics:
        column = PREFIX + static.column
        words = text(column) if is_text(stays.schema[column]) else pl.lit(None, pl.String)
        if static.categories:
            values = {name: words == of for name, of in zip(static.names, static.categories, strict=True)}
        else:
            values = {static.column: _number(path, stays.schema, static, words)}
        for name, value in values.items():
            rows = stays.select("stay_id", "set", value.cast(pl.Float64).alias("value"), words.alias("words"))
            rows = sift(rows, _rules(sentinels), tally).drop_nulls("value")
            event = (pl.lit(0.0).alias("time"), pl.lit(position[name]).alias("variable"))
            tables.append(rows.select("stay_id", *event, "value").cast(EVENT_SCHEMA))
    return pl.concat(tables)


def _number(path: Path, schema: pl.Schema, static: Static, words: pl.Expr) -> pl.Expr:
    value = number(path, schema, PREFIX + static.column).fill_nan(None)
    if static.column != "sex":
        return value
    sex = words.str.to_lowercase().replace_strict(SEX, default=None, return_dtype=pl.Float64)
    return pl.coalesce(sex, value)


def _rules(sentinels: Sequence[float]) -> dict[str, tuple[str, pl.Expr]]:
    value = pl.col("value")
    return {
        "unreadable_static": (
            "a static value that is text where a number is meant",
            value.is_null() & pl.col("words").is_not_null(),
        ),
        "static_sentinel": ("a static value that stands for unknown", value.is_in(list(sentinels))),
    }
