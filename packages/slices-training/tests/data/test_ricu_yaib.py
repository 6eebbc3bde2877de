"""The tasks of YAIB on its own tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from slices.training.data import DataConfig, StayDataModule
from slices.training.data.vocabulary import read_vocabulary

YAIB = {
    "mortality24": ("binary", False),
    "kidney_function": ("regression", False),
    "los": ("regression", True),
    "aki": ("binary", True),
    "sepsis": ("binary", True),
}


@pytest.mark.parametrize("task", YAIB)
def test_every_task_of_yaib_aligns(shared_data: Path, tmp_path: Path, task: str) -> None:
    """Grid and labels, bin by bin, against the raw tables."""
    task_type, per_step = YAIB[task]
    raw = shared_data / "yaib-mimic-demo" / task
    source = {"name": "ricu", "raw": str(raw), "task_name": task, "task_type": task_type}
    config = DataConfig(source=source, dataset_dir=str(tmp_path / task), horizon=169)
    data = StayDataModule(config, task=task)
    data.prepare_data()
    data.setup()
    assert data.task is not None and data.task.per_step == per_step
    batch = data.cut(np.arange(len(data.store)), normalize=False)
    dyn, outc = (pl.read_parquet(raw / f"{name}.parquet") for name in ("dyn", "outc"))
    row = {stay: i for i, stay in enumerate(batch["stay_id"].tolist())}
    assert set(row) == set(outc["stay_id"])
    bins = [
        (row[stay], int(time.total_seconds() // 3600)) for stay, time in dyn.select("stay_id", "time").rows()
    ]
    end = 169 if per_step else 24
    vocabulary = read_vocabulary("icu")
    for name in ("hr", "crea", "urine", "temp"):
        low, high = vocabulary[name].low, vocabulary[name].high
        wanted = np.full(batch["timeseries"].shape[:2], np.nan)
        for (stay, hour), value in zip(bins, dyn[name], strict=True):
            if value is not None and hour < end and low <= value <= high:
                wanted[stay, hour] = value
        column = data.variables.index(name)
        got = np.where(batch["mask"][..., column], batch["timeseries"][..., column], np.nan)
        np.testing.assert_allclose(got, wanted, rtol=1e-6)
    labels = np.full(batch["label"].shape, np.nan)
    for stay, *time, label in outc.rows():
        labels[(row[stay], int(time[0].total_seconds() // 3600)) if per_step else row[stay]] = label
    np.testing.assert_allclose(np.where(batch["label_mask"], batch["label"], np.nan), labels, rtol=1e-6)
