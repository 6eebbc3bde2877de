"""How long a stay lasts cannot be learnt from records that end before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from slices.training.data import DataConfig, prepare_dataset
from slices.training.data.sources import PhysioNet2012Source

SYNTHETIC = {"name": "synthetic", "n_stays": 10}
POOLED = {"name": "pool", "members": {"one": {"source": SYNTHETIC, "renaming": "synthetic"}}}


def hourly_tables(raw: Path) -> dict[str, Any]:
    raw.mkdir()
    rows = {"stay_id": [1] * 30, "time": range(30), "hr": [80.0] * 30}
    pl.DataFrame(rows).write_parquet(raw / "dyn.parquet")
    pl.DataFrame({"stay_id": [1], "age": [60.0]}).write_parquet(raw / "sta.parquet")
    return {"name": "ricu", "raw": str(raw)}


def prepare(folder: Path, source: dict[str, Any], **definition: Any) -> pl.DataFrame:
    given = DataConfig(source=source, dataset_dir=str(folder / "d"), definitions={"stay": definition})
    return prepare_dataset(given.build_source(), given.dataset_dir).labels("stay")


@pytest.mark.parametrize("kind", ["length_of_stay", "remaining_length_of_stay"])
@pytest.mark.parametrize(
    ("source", "cut"),
    [
        (SYNTHETIC, "after 48 hours"),
        (POOLED, r"after 48 hours \(in the member one\)"),
        ("hourly", "with the last row of dyn.*data.source.whole_stays=true"),
    ],
)
def test_a_task_about_the_length_is_refused(
    kind: str, source: Any, cut: str, tmp_path: Path, left_behind: Any
) -> None:
    if source == "hourly":
        source = hourly_tables(tmp_path / "raw")
    before = left_behind(tmp_path)
    with pytest.raises(ValueError, match=rf"'stay' \({kind}\) needs stays .* end {cut}.*where=hospital"):
        prepare(tmp_path, source, kind=kind)
    assert left_behind(tmp_path) == before


def test_the_challenge_holds_two_days() -> None:
    assert PhysioNet2012Source.cut == "after 48 hours"


def test_days_in_hospital_are_known_all_the_same(tmp_path: Path) -> None:
    assert len(prepare(tmp_path, SYNTHETIC, kind="length_of_stay", where="hospital"))


def test_hourly_tables_of_whole_stays_count_down(tmp_path: Path) -> None:
    source = hourly_tables(tmp_path / "raw") | {"whole_stays": True}
    left = prepare(tmp_path, source, kind="remaining_length_of_stay", every=10.0)
    assert left.select("prediction_time", "value").rows() == [(10.0, 20.0), (20.0, 10.0)]
