"""Label tables of MEDS datasets."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from meds_raw import RECORD, Meds, drops, labels, rows, stay


@pytest.mark.parametrize(
    ("task", "column", "values", "classes"),
    [
        ({"task_type": "binary"}, "boolean_value", [True, False], [1, 0]),
        ({"task_type": "binary"}, "integer_value", [1, 0], [1, 0]),
        ({"task_type": "binary", "classes": ["no", "yes"]}, "categorical_value", ["yes", "no"], [1, 0]),
        (
            {"task_type": "multiclass", "classes": ["a", "b", "c"]},
            "categorical_value",
            ["c", "a"],
            [2, 0],
        ),
        ({"task_type": "multiclass", "classes": ["a", "b", "c"]}, "integer_value", [2, 1], [2, 1]),
        ({"task_type": "regression"}, "float_value", [2.5, -1.0], [2.5, -1.0]),
        ({"task_type": "regression"}, "integer_value", [7, 3], [7, 3]),
    ],
)
def test_labels_of_every_type(meds: Meds, task: Any, column: str, values: list[Any], classes: Any) -> None:
    meds.write(rows(*stay(7, 10, 40), *stay(8, 0, 30)))
    meds.write(labels((7, 34.0, values[0]), (8, 24.0, values[1]), column=column), "tasks/a b c.parquet")
    store = meds.prepare(labels={"t": {"file": "tasks/a b c.parquet"} | task})
    found = store.labels("t").select("stay_id", "prediction_time", "column", "value").rows()
    assert found == [(7001, 24.0, 0, classes[0]), (8001, 24.0, 0, classes[1])]
    assert store.manifest.tasks["t"].task_type == task["task_type"]


def test_labels_that_belong_to_no_stay_are_counted(meds: Meds) -> None:
    meds.write(rows(*stay(7, 10, 40), *stay(7, 50, 60)))
    meds.write(rows(*stay(8, 10, 40)), "data/train/1.parquet")
    kept = [(7, 40.0, True), (8, 11.0, False)]
    early = [(8, 10.5, True)]  # when what is known soon of the statics is not all known yet
    lost = [(7, 5.0, True), (7, 45.0, True), (9, 20.0, True), (8, 20.0, None), (8, None, True)]
    meds.write(labels(*kept, *kept, *early, *lost), "tasks/t/train/0.parquet")
    meds.write(labels((7, 55.0, True)), "tasks/t/1.parquet")
    folder = {"file": str(meds.raw / "tasks" / "t"), "task_type": "binary", "classes": ["alive", "dead"]}
    store = meds.prepare(labels={"t": folder})
    assert store.labels("t").select("stay_id", "prediction_time", "value").rows() == [
        *((7001, 30.0, 1.0), (7002, 5.0, 1.0)),
        (8001, 1.0, 0.0),
    ]
    assert drops(store) == {
        "label_too_early": 1,
        "label_outside_stays": 2,
        "label_of_nobody": 1,
        "label_without_value": 1,
        "label_without_time": 1,
        "duplicate_label": 2,
    }


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (labels((7, 20.0, True)).drop("prediction_time"), {}, r"t\.parquet: unknown column .predict"),
        (
            labels((7, 20.0, True)).drop("boolean_value", "integer_value", "categorical_value"),
            {},
            "has none of",
        ),
        (
            labels((7, 20.0, 3), column="integer_value"),
            {},
            "'t', stay 7001: its label is not a class from 0 to",
        ),
        (
            labels((7, 20.0, "bb"), column="categorical_value"),
            {"task_type": "multiclass", "classes": ["a", "b"]},
            r"t\.parquet: categorical_value: unknown class 'bb': did you mean 'b'",
        ),
        (labels((7, 20.0, True), (7, 20.0, False)), {}, "stay 7001: its label is given twice"),
        (labels((7, 20.0, True)), {"file": "tasks/u.parquet"}, r"no label table at .*u\.parquet"),
        (labels((7, 20.0, True)), {"task_type": "multiclass"}, "a multiclass task needs the names of its cl"),
        (labels((7, 20.0, True)), {"task_type": "multilabel"}, r"labels\.t\.task_type.*'multilabel'"),
        (labels((7, 20.0, True)), {"files": "x"}, r"labels\.t: unknown option 'files': did you mean 'file'"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(
    meds: Meds, table: pl.DataFrame, options: dict[str, Any], message: str
) -> None:
    meds.write(RECORD)
    meds.write(table, "tasks/t.parquet")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        meds.prepare(labels={"t": {"file": "tasks/t.parquet", "task_type": "binary"} | options})


def test_labels_of_nobody_are_counted_anew_where_an_interrupted_preparation_goes_on(meds: Meds) -> None:
    meds.write(rows(*stay(7, 10, 20)), "data/0.parquet")
    meds.write(rows(*stay(2**62, 10, 20)), "data/1.parquet")
    meds.write(labels((7, 15.0, True), (9, 15.0, True)), "t.parquet")
    options = {"labels": {"t": {"file": "t.parquet", "task_type": "binary"}}}
    with pytest.raises(ValueError, match="leave no room to number"):
        meds.prepare(**options)
    meds.n_prepared = 0
    meds.write(rows(*stay(9, 10, 20)), "data/1.parquet")
    assert "label_of_nobody" not in drops(meds.prepare(**options))
