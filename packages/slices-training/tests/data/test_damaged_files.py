"""Files damaged anywhere: read, or refused by name, never a panic of the library that reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from raw_files import write_meds, write_ricu, write_table
from slices.training.data import DatasetError, StayStore, build_source, prepare_dataset
from slices.training.data.sources.reading import reading
from stored import recorded

PLACES = 12
PANIC = pl.exceptions.PanicException("called `Option::unwrap()` on a `None` value\nand more")


def damaged(content: bytes, place: int) -> bytes:
    """Eight bytes overwritten, at one of ``PLACES``."""
    at = (len(content) - 8) * place // (PLACES - 1)
    return content[:at] + b"\xff\x00\x80\x7f\xff\xff\xff\xff" + content[at + 8 :]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", range(PLACES))
@pytest.mark.parametrize(
    ("name", "write"), [("ricu", write_ricu), ("table", write_table), ("meds", write_meds)]
)
def test_a_damaged_raw_file_is_read_or_named(
    name: str, write: Callable[[Path], Path], place: int, tmp_path: Path
) -> None:
    (tmp_path / "raw").mkdir()
    path = write(tmp_path / "raw")
    path.write_bytes(damaged(path.read_bytes(), place))
    try:
        prepare_dataset(build_source({"name": name, "raw": str(tmp_path / "raw")}), tmp_path / "d")
    except ValueError as error:
        assert path.name in str(error) or "holds no stay" in str(error)


@pytest.mark.parametrize("place", range(PLACES))
@pytest.mark.parametrize("table", ["stays.parquet", "labels.parquet"])
def test_a_damaged_table_of_a_dataset_is_read_or_named(
    table: str, place: int, tmp_path: Path, synthetic_copy: Path
) -> None:
    path = synthetic_copy / table
    path.write_bytes(damaged(path.read_bytes(), place))
    recorded(synthetic_copy)
    try:
        StayStore(synthetic_copy).labels("in_hospital_mortality")
    except DatasetError as error:
        assert table in str(error) or "do not fit together" in str(error)


def test_a_panic_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = write_table(tmp_path)
    message = r"rows\.parquet cannot be read \(called `Opt.* value\)"
    with pytest.raises(ValueError, match=message), reading(path):
        raise PANIC


def panic(*_: Any, **__: Any) -> Any:
    raise PANIC


def test_a_panic_over_a_dataset_names_the_file(synthetic_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl.LazyFrame, "collect", panic)
    with pytest.raises(DatasetError, match=r"stays\.parquet cannot be read \(called `Opt.* value\)"):
        StayStore(synthetic_copy)


@pytest.mark.parametrize(
    ("name", "write"), [("ricu", write_ricu), ("table", write_table), ("meds", write_meds)]
)
def test_no_source_lets_a_panic_through(
    name: str, write: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever reads first: from then on the library panics."""
    (tmp_path / "raw").mkdir()
    write(tmp_path / "raw")
    source = build_source({"name": name, "raw": str(tmp_path / "raw")})
    source.parts()

    monkeypatch.setattr(pl.LazyFrame, "collect", panic)
    with pytest.raises(ValueError, match=r"\.parquet cannot be read .*truncated, damaged"):
        prepare_dataset(source, tmp_path / "d")
