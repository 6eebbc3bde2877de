"""Which hourly rows a model sees where each stay has one label, and which YAIB's see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from slices.training.data import DataConfig, SplitConfig, StayDataModule

LAST = 24  # the last row of YAIB's tables of the first 24 hours
HOUR = pl.col("time").dt.total_hours()


def seen(folder: Path, raw: Path, task_type: str, prediction_time: float) -> dict[str, Any]:
    """All stays as a model gets them, in raw units, and ``columns``."""
    source = {"name": "ricu", "raw": str(raw), "task_type": task_type, "prediction_time": prediction_time}
    splits = SplitConfig(val_fraction=0.0, test_fraction=0.0)
    config = DataConfig(source=source, dataset_dir=str(folder / f"at-{prediction_time:g}"), splits=splits)
    data = StayDataModule(config, task="label")
    data.prepare_data()
    data.setup()
    batch = data.cut(np.arange(len(data.store)), normalize=False)
    return dict(batch) | {"columns": list(data.variables)}


@pytest.fixture
def first_day(tmp_path: Path) -> Path:
    """One stay as YAIB writes it: rows of the hours 0 to 24, each with its hour as heart rate."""
    raw = tmp_path / "raw"
    raw.mkdir()
    hours = range(LAST + 1)
    dyn = pl.DataFrame({"stay_id": 1, "time": hours, "hr": [100.0 + hour for hour in hours]})
    dyn.write_parquet(raw / "dyn.parquet")
    pl.DataFrame({"stay_id": [1], "age": [60.0]}).write_parquet(raw / "sta.parquet")
    pl.DataFrame({"stay_id": [1], "label": [1]}).write_parquet(raw / "outc.parquet")
    return raw


@pytest.mark.parametrize(("prediction_time", "last"), [(24, 23), (25, 24)])
def test_the_last_row_is_that_of_the_hour_before(
    prediction_time: float, last: int, first_day: Path, tmp_path: Path
) -> None:
    batch = seen(tmp_path, first_day, "binary", prediction_time)
    rate = batch["timeseries"][0, :, batch["columns"].index("hr")]
    observed = batch["mask"][0, :, batch["columns"].index("hr")]
    assert rate[observed].tolist() == [100.0 + hour for hour in range(last + 1)]
    assert int(batch["padding_mask"].sum()) == prediction_time


@pytest.mark.parametrize("task", ["mortality24", "kidney_function"])
def test_at_25_hours_every_row_of_yaib_is_seen(shared_data: Path, tmp_path: Path, task: str) -> None:
    raw = shared_data / "yaib-mimic-demo" / task
    dyn = pl.read_parquet(raw / "dyn.parquet")
    assert dyn.select(HOUR.max()).item() == LAST
    task_type = "binary" if task == "mortality24" else "regression"
    counts = {}
    for at in (24, 25):
        batch = seen(tmp_path, raw, task_type, at)
        counts[at] = int(batch["mask"][..., batch["columns"].index("hr")].sum())
    rates = dyn.filter(pl.col("hr").is_between(0, 300))  # what the vocabulary takes for a rate
    assert counts == {at: len(rates.filter(at > HOUR)) for at in (24, 25)}
    assert counts[24] < counts[25]


def test_what_yaib_asks_begins_after_that_row(shared_data: Path) -> None:
    """The creatinine to be told is the median of the rows 25 to 48, here from the table of whole stays."""
    folder = shared_data / "yaib-mimic-demo"
    rows = pl.read_parquet(folder / "los" / "dyn.parquet").filter(HOUR.is_between(LAST + 1, 48))
    told = rows.group_by("stay_id").agg(pl.col("crea").drop_nulls().median())
    labels = pl.read_parquet(folder / "kidney_function" / "outc.parquet").join(told, on="stay_id")
    assert labels["label"].to_list() == pytest.approx(labels["crea"].to_list())
