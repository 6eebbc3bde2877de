"""Hourly tables that cannot be used."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from ricu_raw import HOUR, Ricu, hourly_tables, with_rows
from slices.training.data import build_source, prepare_dataset


def edited(name: str, change: Any) -> Any:
    return lambda tables: tables | {name: change(tables[name])}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edited("dyn", lambda t: t.drop("time")), r"dyn\.parquet: unknown column 'time'.*rename yours"),
        (edited("sta", lambda t: t.rename({"stay_id": "stayid"})), r"sta\.parquet.*did you mean 'stayid'"),
        (edited("outc", lambda t: t.drop("label")), r"outc\.parquet: unknown column 'label'"),
        (
            edited("dyn", lambda t: t.rename({"lact": "lactt"})),
            r"dyn\.parquet: unknown variable 'lactt': did you mean 'lact'.*keep_unknown=true",
        ),
        (edited("sta", lambda t: t.with_columns(died=pl.lit(1))), r"sta\.parquet: unknown variable 'died'"),
        (edited("dyn", lambda t: t.with_columns(weight=pl.lit(70.0))), "'weight' as static: move"),
        (edited("sta", lambda t: t.with_columns(hr=pl.lit(70.0))), "'hr' as not static: move"),
        (edited("dyn", lambda t: t.with_columns(pl.col("hr").cast(str))), "column 'hr' holds text"),
        (edited("outc", lambda t: t.with_columns(pl.col("label").cast(str))), "column 'label' holds text"),
        (edited("dyn", lambda t: t.with_columns(pl.col("stay_id").cast(str))), "column 'stay_id' holds text"),
        (edited("dyn", lambda t: t.with_columns(hr=pl.lit([1.0]))), "column 'hr' holds List"),
        (edited("dyn", lambda t: t.with_columns(stay_id=pl.lit(True))), "'stay_id' holds Boolean"),
        (
            edited("dyn", lambda t: t.with_columns(time=pl.datetime(2020, 1, 1))),
            r"dyn\.parquet: column 'time' holds Datetime.*not a Duration, or hours",
        ),
        (
            edited("dyn", lambda t: t.with_columns(pl.col("time") + timedelta(minutes=30))),
            r"dyn\.parquet: stay 1 has a row between two hours.*hourly",
        ),
        (
            edited("outc", lambda t: with_rows(t, (1, HOUR, True))),
            r"outc\.parquet: stay 1 has two different labels at 1 h",
        ),
        (
            edited("outc", lambda t: t.with_columns(label=pl.lit(3))),
            "task 'label', stay 1: its label is not a class from 0 to 1",
        ),
        (
            edited("sta", lambda t: t.with_columns(age=pl.date(2020, 1, 1))),
            r"sta\.parquet: column 'age' holds Date",
        ),
    ],
)
def test_malformed_tables_are_refused(ricu: Ricu, change: Any, message: str, left_behind: Any) -> None:
    ricu.write(change(hourly_tables()))
    with pytest.raises(ValueError, match=message):
        ricu.prepare()
    assert left_behind(ricu.folder) == ["raw"]


def test_blank_and_clashing_names_are_refused(ricu: Ricu) -> None:
    given = hourly_tables()
    ricu.write(given | {"dyn": given["dyn"].rename({"hr": " "})})
    with pytest.raises(ValueError, match=r"dyn\.parquet: unknown variable ' '"):
        ricu.prepare(keep_unknown=True)
    both = {name: given[name].with_columns(x=pl.lit(1.0)) for name in ("dyn", "sta")}
    ricu.write(given | both)
    with pytest.raises(ValueError, match="variable 'x' comes from two columns"):
        ricu.prepare(keep_unknown=True)
    ids = pl.DataFrame({"stay_id": range(60), "free": [f"text {i}" for i in range(60)]})
    ricu.write(given | {"sta": ids})
    with pytest.raises(ValueError, match=r"sta\.parquet: the text column 'free' has 60 different values"):
        ricu.prepare(keep_unknown=True)


@pytest.mark.parametrize("name", ["dyn", "sta", "outc"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_a_truncated_file_is_named(ricu: Ricu, name: str, share: float, left_behind: Any) -> None:
    ricu.write(hourly_tables())
    path = ricu.raw / f"{name}.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=rf"{name}\.parquet cannot be read .*truncated"):
        ricu.prepare()
    assert left_behind(ricu.folder) == ["raw"]


def test_missing_files_and_options_are_named(ricu: Ricu) -> None:
    with pytest.raises(FileNotFoundError, match=r"dyn\.parquet"):
        ricu.prepare()
    with pytest.raises(FileNotFoundError, match=r"no folder nowhere: set data\.source\.raw"):
        prepare_dataset(build_source({"name": "ricu", "raw": "nowhere"}), ricu.folder / "dataset")
    for options, message in [
        ({"task_name": " "}, "task_name is blank"),
        ({"prediction_time": 0.0}, "prediction_time=0.0"),
        ({"prediction_time": 24.5}, r"prediction_time=24\.5: allowed are whole hours"),
        ({"task_type": "multiclass"}, "needs the names of its classes"),
        ({"task_type": "regression", "classes": ["a"]}, "has no classes"),
    ]:
        with pytest.raises(ValueError, match=message):
            build_source(ricu.options(**options))
