"""Raw data that cannot be what it is taken for: times in another unit, absurd times, nothing left."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from meds_raw import Meds, rows, stay
from slices.training.data import DataConfig, SplitConfig, StayDataModule, build_source, prepare_dataset
from slices.training.data.definitions import build_definitions
from stored import counts
from table_raw import ROWS, Table, events

REMAINING = {"remaining": {"kind": "remaining_length_of_stay", "every": 24.0}}


def test_rows_at_an_absurd_time_are_counted_and_make_no_endless_stay(table: Table) -> None:
    absurd = pl.DataFrame(ROWS | {"time": [0.5, 1e9, 0.0, 1.5, 1.7e9]})
    table.rows(absurd)
    source = build_source({"name": "table", "raw": str(table.raw)})
    source.definitions = build_definitions(REMAINING)
    store = prepare_dataset(source, table.folder / "dataset")
    assert counts(store)["bad_time"] == 2
    assert sorted(store.length_hours.tolist()) == [0.5, 1.5]


def test_a_stay_longer_than_a_life_is_refused(table: Table, left_behind: Any) -> None:
    table.rows()
    stays = table.file("stays.csv", {"stay_id": [1, 2], "hours": [24.0, 1e12]})
    with pytest.raises(ValueError, match=r"stay 2 lasts 1e\+12 hours, longer than a life.*correct them"):
        table.prepare(stays=stays, columns={"length": "hours"})
    assert left_behind(table.folder) == ["raw", "stays.csv"]


def test_that_more_was_left_out_than_is_left_is_said(table: Table, caplog: pytest.LogCaptureFixture) -> None:
    table.rows(pl.DataFrame(ROWS | {"value": [None, None, None, None, 70.0]}))
    with caplog.at_level(logging.WARNING, "slices"):
        assert len(events(table.prepare())) == 1
    assert "more was left out than the 1 events that are there: 4 x a value that is missing" in caplog.text


def test_a_task_that_no_stay_has_a_label_of_is_said(table: Table, caplog: pytest.LogCaptureFixture) -> None:
    table.rows()
    source = build_source({"name": "table", "raw": str(table.raw)})
    source.definitions = build_definitions(REMAINING)  # no stay lasts 24 hours
    with caplog.at_level(logging.WARNING, "slices"):
        prepare_dataset(source, table.folder / "dataset")
    assert "no stay has a label of the task 'remaining'" in caplog.text


@pytest.mark.parametrize("statics", [False, True])
def test_training_without_a_measurement_before_the_horizon_is_refused(
    tmp_path: Path, table_source: Any, monkeypatch: pytest.MonkeyPatch, statics: bool
) -> None:
    stays = [(i, i, "a", 3000.0) for i in range(1, 41)]
    late = [(stay, 60.0 * hour, 0, 80.0) for stay, *_ in stays for hour in (1, 2)]  # minutes, in truth
    source = table_source(stays, late + [(stay, 0.0, 3, 70.0) for stay, *_ in stays] * statics)
    prepare_dataset(source, tmp_path / "d")
    monkeypatch.setattr(DataConfig, "build_source", lambda config: source)
    config = DataConfig(source={}, dataset_dir=str(tmp_path / "d"), splits=SplitConfig())
    data = StayDataModule(config)
    with pytest.raises(
        ValueError, match=r"none of the \d+ training stays has a measurement in the first 48 h"
    ):
        data.setup()


def test_statics_known_within_the_first_hour_are_not_seen_by_what_is_asked_before(meds: Meds) -> None:
    meds.write(rows(*stay(7, 0, 100), (7, 0.5, "WEIGHT", 81.0), (7, 1.0, "HR//x", 80.0)))
    source = build_source(
        {
            "name": "meds",
            "raw": str(meds.raw),
            "mapping": str(meds.mapping),
            "stays": {"start": "IN//*", "end": "OUT_OF//*"},
        }
    )
    early, late = ({"kind": "length_of_stay", "where": "icu", "at": at} for at in (0.5, 1.0))
    source.definitions = build_definitions({"early": early, "late": late})
    store = prepare_dataset(source, meds.folder / "dataset")
    assert store.labels("late")["prediction_time"].to_list() == [1.0] and len(store.labels("early")) == 0
    assert counts(store)["label_too_early"] == 1
