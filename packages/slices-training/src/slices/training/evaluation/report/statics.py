"""The statics of a prepared dataset as a table with a row a stay."""

from __future__ import annotations

import numpy as np
import polars as pl

from slices.training.data.store import StayStore


def static_table(store: StayStore) -> pl.DataFrame:
    """``stay_id`` and the first value of each static; null where it was not observed.

    Categories that lie in columns of their own (``unit_MICU``, ``unit_CCU``) are one text column again. A
    static whose unit says what 1 means (``1 = male``) is a text too.
    """
    stay = np.repeat(np.arange(len(store)), np.diff(store.offsets))
    columns = {"stay_id": pl.Series(store.stay_id)}
    for k, variable in enumerate(store.variables):
        if not variable.static:
            continue
        events = np.flatnonzero(store.variable == k)[::-1]  # of several, the first is written last
        values = np.full(len(store), np.nan)
        values[stay[events]] = store.value[events]
        columns[variable.name] = _spelt(pl.Series(values).fill_nan(None), variable.unit)
    return one_column_a_category(pl.DataFrame(columns))


def one_column_a_category(table: pl.DataFrame) -> pl.DataFrame:
    """Columns alike up to an underscore, of which no row has two at 1, become one with what follows it.

    The shortest such beginning counts.

    >>> one_column_a_category(pl.DataFrame({"unit_A": [1.0, 0.0], "unit_B": [0.0, 1.0]})).to_dicts()
    [{'unit': 'A'}, {'unit': 'B'}]
    """
    flags = [name for name in table.columns if "_" in name and _is_flag(table[name])]
    beginnings = {name[:at] for name in flags for at, letter in enumerate(name) if letter == "_" and at}
    for beginning in sorted(beginnings, key=lambda name: (len(name), name)):
        members = [name for name in flags if name.startswith(f"{beginning}_") and name in table.columns]
        if (
            len(members) < 2
            or beginning in table.columns
            or table.select(pl.sum_horizontal(members)).to_series().max() != 1
        ):
            continue
        categories = (pl.when(pl.col(name) == 1).then(pl.lit(name[len(beginning) + 1 :])) for name in members)
        table = table.with_columns(pl.coalesce(list(categories)).alias(beginning)).drop(members)
    return table


def _is_flag(values: pl.Series) -> bool:
    return values.dtype.is_numeric() and set(values.drop_nulls().unique()) <= {0, 1}


def _spelt(values: pl.Series, unit: str) -> pl.Series:
    """``1 = male`` -> male and not male."""
    what = unit.removeprefix("1 = ")
    return values.replace_strict({1: what, 0: f"not {what}"}, default=None) if what != unit else values
