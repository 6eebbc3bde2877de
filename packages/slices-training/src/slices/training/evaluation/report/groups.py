"""Groups of stays: from the statics of a prepared dataset, or from a table of one's own."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from slices.training.data.store import StayStore
from slices.training.evaluation.report.files import NO_TIME

Bands = Mapping[str, Sequence[float]]
UNKNOWN = "unknown"
MOST_VALUES = 20  # of a column that is no number


def stay_groups(path: str | Path, bands: Bands) -> pl.DataFrame:
    """``stay_id`` and a text column a grouping, as age band, sex or unit; null is unknown.

    Args:
        path: the folder of a prepared dataset, or a parquet or CSV file with ``stay_id``.
        bands: edges by which numbers are cut, by name (of any case); other numbers make no groups, but for
            those that are 0 or 1 throughout. Columns of a dataset that only differ in what follows an
            underscore, one of them 1, are one grouping.

    Raises:
        FileNotFoundError, ValueError: no such file, no dataset, or a table that cannot be.
    """
    path = Path(path)
    table, meaning = _of_dataset(StayStore(path)) if path.is_dir() else (_of_file(path), {})
    cut = {name.lower(): edges for name, edges in bands.items()}
    columns = [pl.col("stay_id").cast(pl.Int64)]
    for name in table.columns:
        if name == "stay_id":
            continue
        values = table[name]
        if values.dtype.is_numeric() and name.lower() in cut:
            columns.append(_banded(name, cut[name.lower()]))
        elif values.dtype == pl.Boolean or (
            values.dtype.is_numeric() and set(values.drop_nulls().unique()) <= {0, 1}
        ):
            yes, no = meaning.get(name, ("1", "0"))
            columns.append(
                pl.when(pl.col(name).cast(pl.Boolean))
                .then(pl.lit(yes))
                .otherwise(pl.when(pl.col(name).is_not_null()).then(pl.lit(no)))
                .alias(name)
            )
        elif values.dtype == pl.String and values.n_unique() <= MOST_VALUES:
            columns.append(pl.col(name))
    return table.select(columns)


def group_of_rows(about: pl.DataFrame, groups: pl.DataFrame) -> dict[str, list[str]]:
    """For each grouping, the group of each row of ``about``."""
    joined = about.select("stay_id").join(groups, on="stay_id", how="left", maintain_order="left")
    names = [name for name in groups.columns if name != "stay_id"]
    return {name: joined[name].fill_null(UNKNOWN).to_list() for name in names}


def time_of_rows(about: pl.DataFrame, edges: Sequence[float]) -> list[str] | None:
    """The band of each row's prediction time; None where they are all in one, or have none."""
    times = about["prediction_time"].to_list()
    bands = [_band(time, edges, " h") for time in times]
    return bands if len(set(bands)) > 1 and NO_TIME not in times else None


def _banded(name: str, edges: Sequence[float]) -> pl.Expr:
    return pl.col(name).map_elements(
        lambda value: _band(value, edges), return_dtype=pl.String, skip_nulls=True
    )


def _band(value: float, edges: Sequence[float], unit: str = "") -> str:
    """
    >>> _band(44.9, (45, 65)), _band(45, (45, 65)), _band(70, (45, 65), " h")
    ('<45', '45-65', '>=65 h')
    """
    place = bisect_right(edges, value)
    if place == 0:
        return f"<{edges[0]:g}{unit}"
    if place == len(edges):
        return f">={edges[-1]:g}{unit}"
    return f"{edges[place - 1]:g}-{edges[place]:g}{unit}"


def _of_file(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise FileNotFoundError(f"groups={path}: no such file, and no folder of a prepared dataset")
    try:
        table = pl.read_csv(path) if path.suffix == ".csv" else pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"groups={path} cannot be read: {error}") from error
    if "stay_id" not in table.columns or table["stay_id"].is_duplicated().any():
        raise ValueError(f"groups={path}: needs a column stay_id, with each stay once")
    return table


def _of_dataset(store: StayStore) -> tuple[pl.DataFrame, dict[str, tuple[str, str]]]:
    """The first value of each static of each stay; and what 1 and 0 mean where the unit says it."""
    statics = [(k, variable) for k, variable in enumerate(store.variables) if variable.static]
    stay = np.repeat(np.arange(len(store)), np.diff(store.offsets))
    columns: dict[str, pl.Series] = {"stay_id": pl.Series(store.stay_id)}
    for k, variable in statics:
        events = np.flatnonzero(store.variable == k)[::-1]  # the first is written last
        values = np.full(len(store), np.nan)
        values[stay[events]] = store.value[events]
        columns[variable.name] = pl.Series(values).fill_nan(None)
    meaning = {
        variable.name: (what, f"not {what}")
        for _, variable in statics
        if (what := variable.unit.removeprefix("1 = ")) != variable.unit
    }
    return _joined(pl.DataFrame(columns)), meaning


def _joined(table: pl.DataFrame) -> pl.DataFrame:
    """One text column in place of columns ``unit_a``, ``unit_b`` ... of which no stay has two."""
    flags = [
        name for name in table.columns if "_" in name and set(table[name].drop_nulls().unique()) <= {0, 1}
    ]
    depth = 1
    while flags and depth < max(name.count("_") for name in flags) + 1:
        for prefix in sorted({"_".join(name.split("_")[:depth]) for name in flags}):
            members = [name for name in flags if name.startswith(f"{prefix}_")]
            if len(members) > 1 and (table.select(pl.sum_horizontal(members)).to_series() <= 1).all():
                category = pl.coalesce(
                    pl.when(pl.col(name) == 1).then(pl.lit(name.removeprefix(f"{prefix}_")))
                    for name in members
                )
                table = table.with_columns(category.alias(prefix)).drop(members)
                flags = [name for name in flags if name not in members]
        depth += 1
    return table
