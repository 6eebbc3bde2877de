from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from meds_raw import Meds
from ricu_raw import Ricu
from slices.training.data import Chunk, Part, Source, StayStore, Tally, TaskInfo, Variable, prepare_dataset
from slices.training.data.schema import EVENT_SCHEMA, LABEL_SCHEMA, STAY_SCHEMA
from table_raw import Table

VARIABLES = (
    Variable(name="hr", unit="bpm", low=0, high=300),
    Variable(name="lactate", unit="mmol/L", low=0, transform="log"),
    Variable(name="never_measured"),
    Variable(name="age", unit="years", static=True),
)


@dataclass(kw_only=True)
class TableConfig:
    label: str = "a test's own tables"


class TableSource(Source):
    """Stays, events and labels given as rows."""

    name = "table"
    variables: tuple[Variable, ...] = ()
    tasks: tuple[TaskInfo, ...] = ()

    def __init__(
        self,
        stays: list[tuple[Any, ...]],
        events: list[tuple[Any, ...]],
        labels: list[tuple[Any, ...]] | None = None,
        tasks: tuple[TaskInfo, ...] = (),
        variables: tuple[Variable, ...] = VARIABLES,
    ) -> None:
        super().__init__(TableConfig())
        self.tables = (
            pl.DataFrame(stays, STAY_SCHEMA, orient="row"),
            pl.DataFrame(events, EVENT_SCHEMA, orient="row"),
            pl.DataFrame(labels or [], LABEL_SCHEMA, orient="row"),
        )
        self.tasks = tasks
        self.variables = variables

    def read(self, part: Part, tally: Tally) -> Iterator[Chunk]:
        yield Chunk(*self.tables)


@pytest.fixture
def table_source() -> type[TableSource]:
    return TableSource


@pytest.fixture
def meds(tmp_path: Path) -> Meds:
    return Meds(tmp_path)


@pytest.fixture
def ricu(tmp_path: Path) -> Ricu:
    return Ricu(tmp_path)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path)


@pytest.fixture
def stays_of_48_hours() -> Any:
    return lambda n: [(i + 1, i + 1, "a", 48.0) for i in range(n)]


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> StayStore:
    """300 synthetic stays."""
    from slices.training.data import build_source

    source = build_source({"name": "synthetic", "n_stays": 300})
    return prepare_dataset(source, tmp_path_factory.mktemp("data") / "synthetic")


@pytest.fixture
def synthetic_config(synthetic: StayStore) -> Any:
    """The data config of the synthetic stays, with changes."""
    from slices.training.data import DataConfig

    def config(**changes: Any) -> DataConfig:
        source = {"name": "synthetic", "n_stays": 300}
        return DataConfig(
            **({"source": source, "dataset_dir": str(synthetic.directory), "batch_size": 32} | changes)
        )

    return config


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, where there is one."""
    import os

    beside = Path(__file__).resolve().parents[4].parent / "shared" / "data"
    path = Path(os.environ.get("SLICES_SHARED_DATA", beside))
    if not path.is_dir():
        pytest.skip(f"no real data at {path} (set SLICES_SHARED_DATA)")
    return path


@pytest.fixture
def left_behind() -> Any:
    """What a folder holds, but for the locks, which stay."""
    return lambda folder: [path.name for path in folder.iterdir() if path.suffix != ".lock"]


@pytest.fixture
def synthetic_copy(synthetic: StayStore, tmp_path: Path) -> Path:
    """A copy of that dataset, to be spoilt."""
    import shutil

    return Path(shutil.copytree(synthetic.directory, tmp_path / "copy"))
