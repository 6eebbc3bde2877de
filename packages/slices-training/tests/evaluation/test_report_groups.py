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
    groups, notes = stay_groups(tmp_path / "made", {"Age": [65]})
    assert groups["stay_id"].to_list() == store.stay_id.tolist()
    assert set(groups["sex"].drop_nulls()) == {"male", "not male"}
    units = {name.removeprefix("unit_") for name in names if name.startswith("unit_")}
    assert set(groups["unit"].drop_nulls()) <= units and groups["unit"].n_unique() > 1
    assert set(groups["age"].drop_nulls()) == {"<65", ">=65"}
    assert "weight" not in groups.columns  # a number without bands
    assert any(note.startswith("weight makes no groups") and "bands={weight: " in note for note in notes)


def test_columns_of_a_table_and_stays_that_it_lacks(tmp_path: Path) -> None:
    table = pl.DataFrame({"stay_id": [1, 2, 3], "race": ["x", None, "y"], "site": [4, 4, 5]})
    table.write_csv(tmp_path / "groups.csv")
    groups = stay_groups(tmp_path / "groups.csv", {}).table
    about = pl.DataFrame({"stay_id": [3, 9, 2, 3]})
    of_rows = {name: values.to_list() for name, values in group_of_rows(about, groups).items()}
    assert of_rows == {
        "race": ["y", "unknown", "unknown", "y"],
        "site": ["5", "unknown", "4", "5"],
    }


@pytest.mark.parametrize("bands", [{"age": [40, 65]}, {}])
def test_an_age_that_is_no_number_is_unknown(bands: dict[str, list[float]], tmp_path: Path) -> None:
    table = pl.DataFrame({"stay_id": [1, 2, 3, 4], "age": [70.0, float("nan"), 30.0, None]})
    table.write_parquet(tmp_path / "groups.parquet")
    groups = stay_groups(tmp_path / "groups.parquet", bands).table
    (age,) = group_of_rows(table.select("stay_id"), groups).values()
    assert age.to_list() == (
        [">=65", "unknown", "<40", "unknown"] if bands else ["70.0", "unknown", "30.0", "unknown"]
    )


def test_groups_are_in_the_order_of_their_values(tmp_path: Path) -> None:
    table = pl.DataFrame({"stay_id": [1, 2, 3, 4], "age": [70, 30, 50, None], "ward": [10, 9, None, 2]})
    table.write_parquet(tmp_path / "groups.parquet")
    groups = stay_groups(tmp_path / "groups.parquet", {"age": [45, 65]}).table
    of_rows = group_of_rows(table.select("stay_id"), groups)
    assert of_rows["age"].sort().to_list() == ["<45", "45-65", ">=65", "unknown"]
    assert of_rows["ward"].sort().to_list() == ["2", "9", "10", "unknown"]


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

    bands = time_of_rows(about(1.0, 12.0), [12])
    assert bands is not None and bands.to_list() == ["<12 h", ">=12 h"]
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
    with pytest.raises(ValueError, match="the column hour has a name of the report's own"):
        stay_groups(written(stay_id=[1, 2], hour=[0, 1]), {})
    with pytest.raises(FileNotFoundError, match="no such file"):
        stay_groups(tmp_path / "none.parquet", {})
