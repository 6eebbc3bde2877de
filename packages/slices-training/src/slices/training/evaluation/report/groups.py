"""Groups of rows: by what the stays are, and by the hour of the prediction."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from slices.training.data.store import StayStore
from slices.training.evaluation.report.files import NO_TIME
from slices.training.evaluation.report.statics import static_table

UNKNOWN = "unknown"
MOST_VALUES = 20


def stay_groups(path: str | Path, bands: Mapping[str, Sequence[float]]) -> pl.DataFrame:
    """``stay_id`` and a text column a grouping: band of age, sex, unit ...; null is unknown.

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
    edges = {name.lower(): ends for name, ends in bands.items()}
    columns = [pl.col("stay_id").cast(pl.Int64)]
    for name in table.columns:
        if name.lower() in edges and table[name].dtype.is_numeric():
            columns.append(_banded(name, edges[name.lower()]))
        elif name != "stay_id" and table[name].drop_nulls().n_unique() <= MOST_VALUES:
            columns.append(pl.col(name).cast(pl.String))
    if len(columns) == 1:
        raise ValueError(f"groups={path}: no column makes groups; cut numbers, as in bands={{age: [65]}}")
    return table.select(columns)


def group_of_rows(about: pl.DataFrame, groups: pl.DataFrame) -> dict[str, list[str]]:
    """For each grouping, the group of each row's stay."""
    joined = about.select("stay_id").join(groups, on="stay_id", how="left", maintain_order="left")
    return {name: joined[name].fill_null(UNKNOWN).to_list() for name in groups.columns if name != "stay_id"}


def time_of_rows(about: pl.DataFrame, edges: Sequence[float]) -> list[str] | None:
    """The band of each row's prediction time; None where they are all in one, or have none."""
    times = about["prediction_time"].to_list()
    bands = [f"{band(time, edges)} h" for time in times]
    return bands if len(set(bands)) > 1 and NO_TIME not in times else None


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


def _banded(name: str, edges: Sequence[float]) -> pl.Expr:
    return pl.col(name).map_elements(lambda value: band(value, edges), return_dtype=pl.String)


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
