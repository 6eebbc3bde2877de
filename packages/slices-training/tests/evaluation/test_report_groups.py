"""Groups of stays: a dataset's statics, a table's columns, and what makes no group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from slices.training.data import build_source, prepare_dataset
from slices.training.evaluation.report.groups import group_of_rows, stay_groups, time_of_rows
from slices.training.evaluation.report.statics import one_column_a_category, static_table


def test_statics_of_a_dataset_become_groups(tmp_path: Path) -> None:
    store = prepare_dataset(build_source({"name": "synthetic", "n_stays": 80}), tmp_path / "made")
    table = static_table(store)
    names = [variable.name for variable in store.variables]
    for stay in range(0, 80, 7):
        rows = slice(store.offsets[stay], store.offsets[stay + 1])
        age = store.value[rows][store.variable[rows] == names.index("age")]
        assert table["age"][stay] == (pytest.approx(age[0]) if len(age) else None)
    groups = stay_groups(tmp_path / "made", {"Age": [65]})
    assert groups["stay_id"].to_list() == store.stay_id.tolist()
    assert set(groups["sex"].drop_nulls()) == {"male", "not male"}
    units = {name.removeprefix("unit_") for name in names if name.startswith("unit_")}
    assert set(groups["unit"].drop_nulls()) <= units and groups["unit"].n_unique() > 1
    assert set(groups["age"].drop_nulls()) == {"<65", ">=65"}
    assert "weight" not in groups.columns  # a number without bands


def test_columns_of_a_table_and_stays_that_it_lacks(tmp_path: Path) -> None:
    table = pl.DataFrame({"stay_id": [1, 2, 3], "race": ["x", None, "y"], "site": [4, 4, 5]})
    table.write_csv(tmp_path / "groups.csv")
    groups = stay_groups(tmp_path / "groups.csv", {})
    about = pl.DataFrame({"stay_id": [3, 9, 2, 3]})
    assert group_of_rows(about, groups) == {
        "race": ["y", "unknown", "unknown", "y"],
        "site": ["5", "unknown", "4", "5"],
    }


def test_categories_of_overlapping_names_are_kept_apart() -> None:
    flags = np.eye(2)
    table = pl.DataFrame(
        {
            "adm_type_a": flags[0],
            "adm_type_b": flags[1],
            "adm_place_a": flags[0],
            "adm_place_b": flags[1],
            "is_old": [1.0, 0.0],
        }
    )
    joined = one_column_a_category(table)
    assert joined["adm_type"].to_list() == joined["adm_place"].to_list() == ["a", "b"]
    assert joined["is_old"].to_list() == [1.0, 0.0] and len(joined.columns) == 3


def test_prediction_times_in_one_band_make_no_groups() -> None:
    def about(*times: float) -> pl.DataFrame:
        return pl.DataFrame({"prediction_time": times})

    assert time_of_rows(about(1.0, 12.0), [12]) == ["<12 h", ">=12 h"]
    assert time_of_rows(about(1.0, 2.0), [12]) is None
    assert time_of_rows(about(-1.0, 20.0), [12]) is None  # not known


def test_what_makes_no_groups_is_said(tmp_path: Path) -> None:
    def written(**columns: list[float]) -> str:
        pl.DataFrame(columns).write_parquet(tmp_path / "groups.parquet")
        return str(tmp_path / "groups.parquet")

    with pytest.raises(ValueError, match="each stay once"):
        stay_groups(written(stay_id=[1, 1], sex=[0, 1]), {})
    with pytest.raises(ValueError, match="each stay once"):
        stay_groups(written(sex=[0, 1]), {})
    with pytest.raises(ValueError, match="no column makes groups"):
        stay_groups(written(stay_id=list(range(30)), weight=list(range(30))), {"age": [65]})
    with pytest.raises(FileNotFoundError, match="no such file"):
        stay_groups(tmp_path / "none.parquet", {})
