"""The labels of a table."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from stored import counts
from table_raw import ADMISSION, TASKS, Table, labels, stamped


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet"])
def test_labels_of_every_type(table: Table, name: str) -> None:
    table.rows()
    given = labels(
        ("died", 1, 24.0, "True", None),
        ("died", 2, 24.0, "0", 0),
        ("los", 1, 24.0, " 3.5", None),
        ("unwell", 1, 1.0, "0", 0),
        ("unwell", 1, 2.0, "2", 0),
        ("failure", 2, 12.0, "1", 0),
        ("failure", 2, 12.0, "0", 1),
        ("died", 3, 24.0, "1", 0),
        ("los", 2, 24.0, None, 0),
        ("los", 2, None, "1", 0),
        ("unwell", 1, 2.0, "2.0", 0),
    )
    store = table.prepare(labels=table.file(name, given), tasks=TASKS)
    assert store.labels("died").select("stay_id", "prediction_time", "value").rows() == [
        (1, 24.0, 1.0),
        (2, 24.0, 0.0),
    ]
    assert store.labels("los")["value"].to_list() == [3.5]
    assert store.labels("unwell").select("prediction_time", "value").rows() == [(1.0, 0.0), (2.0, 2.0)]
    assert store.labels("failure").select("column", "value").rows() == [(0, 1.0), (1, 0.0)]
    assert store.manifest.tasks["died"].classes == ("negative", "positive")
    assert counts(store) == {
        "label_without_stay": 1,
        "no_label": 1,
        "label_without_time": 1,
        "repeated_label": 1,
    }


def test_labels_of_the_only_task_at_timestamps(table: Table) -> None:
    table.rows(stamped())
    at = [ADMISSION[1] + timedelta(hours=6), ADMISSION[2] + timedelta(hours=30)]
    path = table.file("labels.csv", {"stay_id": [1, 2], "prediction_time": at, "value": [True, False]})
    stays = table.file("stays.csv", {"stay_id": [1, 2, 3], "admission_time": [*ADMISSION.values(), None]})
    store = table.prepare(stays=stays, labels=path, tasks={"died": TASKS["died"]})
    assert store.labels("died").select("prediction_time", "value").sort("value").rows() == [
        (30.0, 0.0),
        (6.0, 1.0),
    ]
    assert counts(store) == {"no_outcome": 1}


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet"])
@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            ("dead", 1, 24.0, "1", 0),
            r"labels.*, row 1, column 'task': 'aaaa' is none of data\.source\.tasks: died",
        ),
        (("died", 1, 24.0, "perhaps", 0), r"labels.*, row 1, column 'value': 'aaaaaaa' is no number"),
        (("failure", 1, 24.0, "1", "renal"), r"labels.*, row 1, column 'column': 'aaaaa' is no whole number"),
        (("died", 1, 24.0, "2", 0), "task 'died', stay 1: its label is not a class"),
        (("died", 1, 24.0, "1", 3), "task 'died', stay 1: .* has a column over 0"),
    ],
)
def test_a_malformed_label_is_refused(table: Table, name: str, row: tuple[Any, ...], message: str) -> None:
    table.rows()
    with pytest.raises(ValueError, match=message):
        table.prepare(labels=table.file(name, labels(row)), tasks=TASKS)


def test_two_different_labels_are_refused(table: Table) -> None:
    table.rows()
    given = labels(("died", 1, 24.0, "1", 0), ("died", 1, 24.0, "0", 0))
    with pytest.raises(ValueError, match=r"task 'died', stay 1: .* is given twice"):
        table.prepare(labels=table.file("labels.csv", given), tasks=TASKS)
    table.file("labels.csv", {"stay_id": [1], "prediction_time": [24.0], "value": [1]})
    with pytest.raises(ValueError, match=r"labels\.csv: unknown column 'task'"):
        table.prepare(labels=str(table.folder / "labels.csv"), tasks=TASKS)


def test_labels_after_the_end_of_a_stay(table: Table) -> None:
    table.rows()
    given = labels(*(("died", stay, time, "1", 0) for stay, time in ((1, 6.0), (1, 6.1), (2, 6.1), (3, 5.0))))
    stays = table.file("stays.csv", {"stay_id": [1, 2, 3], "length_hours": [6.0, None, None]})
    store = table.prepare(stays=stays, labels=table.file("labels.csv", given), tasks={"died": TASKS["died"]})
    died = store.labels("died")
    assert died["stay_id"].to_list() == [1, 2, 3]
    assert died["prediction_time"].to_list() == pytest.approx([6.0, 6.1, 5.0])
    assert counts(store)["label_after_stay"] == 1
    assert store.length_hours.tolist() == pytest.approx([6.0, 6.1, 5.0])  # not known: up to the last label
