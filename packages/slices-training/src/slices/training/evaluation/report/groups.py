"""Groups of rows: by what the stays are, and by the hour of the prediction."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl
from polars import selectors

from slices.training.data.store import StayStore
from slices.training.evaluation.report.files import NO_TIME
from slices.training.evaluation.report.statics import static_table

UNKNOWN = "unknown"
MOST_VALUES = 20
TAKEN = ("all", "hour", "class", "label", "target", "quantile")  # groupings of the report's own


class Groups(NamedTuple):
    """``table``: ``stay_id`` and an ordered column a grouping. ``notes``: which columns make none."""

    table: pl.DataFrame
    notes: list[str]


def stay_groups(path: str | Path, bands: Mapping[str, Sequence[float]]) -> Groups:
    """What each stay is: band of age, sex, unit ...; null and NaN are unknown.

    Args:
        path: the folder of a prepared dataset, whose statics are taken, or a parquet or CSV file with
            ``stay_id`` and a column a grouping.
        bands: edges by which numbers are cut, by name (of any case). Other columns make groups of their
            values unless there are more than ``MOST_VALUES``.

    Raises:
        FileNotFoundError, ValueError: no such file, no dataset, a table that cannot be, or one that makes no
            groups.
    """
    path = Path(path)
    table = static_table(StayStore(path)) if path.is_dir() else _read(path)
    if taken := [name for name in table.columns if name in TAKEN]:
        raise ValueError(f"groups={path}: the column {taken[0]} has a name of the report's own: rename it")
    edges = {name.lower(): ends for name, ends in bands.items()}
    columns, notes = [], []
    for values in table.drop("stay_id").with_columns(selectors.float().fill_nan(None)):
        if values.name.lower() in edges and values.dtype.is_numeric():
            columns.append(_banded(values, edges[values.name.lower()]))
        elif (n := values.drop_nulls().n_unique()) <= MOST_VALUES:
            columns.append(_valued(values))
        else:
            cut = f": cut it, as in bands={{{values.name}: [1, 2]}}" if values.dtype.is_numeric() else ""
            notes.append(f"{values.name} makes no groups, with more than {MOST_VALUES} values ({n}){cut}")
    if not columns:
        raise ValueError(f"groups={path}: no column makes groups; cut numbers, as in bands={{age: [65]}}")
    return Groups(pl.DataFrame([table["stay_id"].cast(pl.Int64), *columns]), notes)


def group_of_rows(about: pl.DataFrame, groups: pl.DataFrame) -> dict[str, pl.Series]:
    """For each grouping, the group of each row's stay."""
    joined = about.select("stay_id").join(groups, on="stay_id", how="left", maintain_order="left")
    return {values.name: values.fill_null(UNKNOWN) for values in joined.drop("stay_id")}


def time_of_rows(about: pl.DataFrame, edges: Sequence[float]) -> pl.Series | None:
    """The band of each row's prediction time; None where they are all in one, or have none."""
    bands = _banded(about["prediction_time"], edges, " h")
    return bands if bands.n_unique() > 1 and NO_TIME not in about["prediction_time"] else None


def band(value: float, edges: Sequence[float]) -> str:
    """The name of the band, lower ends included.

    >>> band(44.9, (45, 65)), band(45, (45, 65)), band(70, (45, 65))
    ('<45', '45-65', '>=65')
    """
    place = bisect_right(edges, value)
    if place == 0:
        return f"<{edges[0]:g}"
    if place == len(edges):
        return f">={edges[-1]:g}"
    return f"{edges[place - 1]:g}-{edges[place]:g}"


def _banded(values: pl.Series, edges: Sequence[float], unit: str = "") -> pl.Series:
    """In the order of the bands."""
    names = [band(value, edges) + unit for value in (-math.inf, *edges)]
    place = values.map_elements(lambda value: bisect_right(edges, value), return_dtype=pl.Int64)
    return _ordered(place.replace_strict(dict(enumerate(names)), return_dtype=pl.String), names)


def _valued(values: pl.Series) -> pl.Series:
    """In the order of the values."""
    return _ordered(values.cast(pl.String), values.drop_nulls().unique().sort().cast(pl.String).to_list())


def _ordered(names: pl.Series, order: Sequence[str]) -> pl.Series:
    return names.cast(pl.Enum([*(name for name in order if name != UNKNOWN), UNKNOWN]))


def _read(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise FileNotFoundError(f"groups={path}: no such file, and no folder of a prepared dataset")
    try:
        table = pl.read_csv(path) if path.suffix == ".csv" else pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"groups={path} cannot be read: {error}") from error
    if "stay_id" not in table.columns or table["stay_id"].is_duplicated().any():
        raise ValueError(f"groups={path}: needs a column stay_id, with each stay once")
    return table
