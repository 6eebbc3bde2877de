"""``data/definitions=...``: tasks that are ready to be asked for by name."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from omegaconf import OmegaConf

from cli import CommandLine
from slices.training.compose import compose_app
from slices.training.data.definitions import build_definitions

ROOT = Path(__file__).resolve().parents[1]
READY = sorted(path.stem for path in (ROOT / "configs" / "data" / "definitions").glob("*.yaml"))
SHARED = Path(os.environ.get("SLICES_SHARED_DATA", ROOT.parent / "shared" / "data"))
ON_TABLE = ["kdigo_aki", "length_of_stay_24h", "remaining_length_of_stay"]
ON_SYNTHETIC = ["hospital_length_of_stay_24h", "hospital_mortality_24h", "time_to_death"]


def defined(app: str, *typed: str) -> dict[str, Any]:
    section = OmegaConf.to_container(compose_app(app, list(typed)).data.definitions)
    assert isinstance(section, dict)
    return {str(name): options for name, options in section.items()}


@pytest.mark.parametrize("name", READY)
def test_a_file_defines_the_task_of_its_name_with_every_option(name: str) -> None:
    written = defined("prepare", f"data/definitions={name}")
    (definition,) = build_definitions(written)
    stated = json.loads(json.dumps(dataclasses.asdict(definition)))
    assert written == {name: {"kind": definition.kind} | {k: v for k, v in stated.items() if k != "name"}}


@pytest.mark.parametrize(
    "app",
    [
        "prepare",
        *(pytest.param(a, marks=pytest.mark.slow) for a in ("describe", "pretrain", "finetune", "benchmark")),
    ],
)
@pytest.mark.parametrize("data", ["meds", "ricu", "table"])
def test_several_at_once_and_changed(app: str, data: str) -> None:
    changed = ["data.definitions.kdigo_aki.within=12", "+data.definitions.mine.kind=mortality"]
    given = defined(app, f"data={data}", "data/definitions=[mortality_24h,kdigo_aki]", *changed)
    assert list(given) == ["mortality_24h", "kdigo_aki", "mine"]
    assert given["kdigo_aki"]["within"] == 12
    assert defined(app, f"data={data}") == {}


def labels(folder: Path) -> dict[str, pl.DataFrame]:
    table = pl.read_parquet(folder / "labels.parquet")
    return {str(task): rows for (task,), rows in table.group_by("task")}


def prepare(cli: CommandLine, names: list[str], *typed: str) -> dict[str, pl.DataFrame]:
    done = cli("prepare", *typed, f"data/definitions=[{','.join(names)}]", "data.dataset_dir=made")
    assert done.status == 0, done.err
    return labels(Path("made"))


@pytest.fixture
def table(tmp_path: Path) -> list[str]:
    """Two stays of 30 hours: creatinine and urine every hour; the kidneys of the second fail at hour 20."""
    rows = [
        (stay, float(hour), name, value)
        for stay in (1, 2)
        for hour in range(30)
        for name, value in (("crea", 2.0 if stay == 2 and hour >= 20 else 1.0), ("urine", 80.0))
    ]
    columns = ["stay_id", "time", "variable", "value"]
    pl.DataFrame(rows, columns, orient="row").write_parquet(tmp_path / "rows.parquet")
    stays = pl.DataFrame({"stay_id": [1, 2], "length_hours": [30.0, 30.0], "weight": [70.0, 70.0]})
    stays.write_csv(tmp_path / "stays.csv")
    options = {"raw": "rows.parquet", "stays": "stays.csv", "vocabulary": "icu", "statics": "[weight]"}
    return ["data=table", *(f"data.source.{key}={value}" for key, value in options.items())]


def test_rows_of_ones_own(cli: CommandLine, table: list[str]) -> None:
    found = prepare(cli, ON_TABLE, *table)
    assert sorted(found) == ON_TABLE
    assert found["length_of_stay_24h"]["value"].to_list() == [1.25, 1.25]
    left = found["remaining_length_of_stay"].filter(stay_id=1)
    assert left["value"].to_list() == [30.0 - hour for hour in range(1, 30)]
    injured = found["kdigo_aki"].filter(pl.col("value") == 1)
    assert injured.select("stay_id", "prediction_time").rows() == [(2, float(h)) for h in range(14, 20)]


@pytest.mark.parametrize("name", [name for name in READY if name not in ON_TABLE])
def test_a_table_knows_no_outcomes(name: str, cli: CommandLine, table: list[str]) -> None:
    done = cli("prepare", *table, f"data/definitions={name}")
    assert done.status == 2 and "needs an outcome" in done.err and "labels of its own" in done.err


def test_made_up_stays(cli: CommandLine, on_tiny: list[str]) -> None:
    own = ["data.source.n_stays=60", "data.dataset_dir=made"]
    found = prepare(cli, ON_SYNTHETIC, *own)
    assert set(ON_SYNTHETIC) < set(found)
    assert set(found["hospital_mortality_24h"]["prediction_time"]) == {24.0}
    asked = f"data/definitions=[{','.join(ON_SYNTHETIC)}]"
    done = cli("pretrain", *on_tiny[2:], *own, asked, "encoder=linear", "encoder.d_model=8")
    assert done.status == 0 and asked in done.out.partition("next: ")[2]  # the same dataset


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs real data at SLICES_SHARED_DATA or ../shared/data")
def test_meds_has_what_all_of_them_need(cli: CommandLine) -> None:
    found = prepare(cli, READY, "data=meds", f"data.source.raw={SHARED / 'mimic-iv-demo-meds'}")
    assert sorted(found) == READY
    assert 0.02 < float(found["mortality_24h"]["value"].mean()) < 0.2  # type: ignore[arg-type]
    assert 0.02 < float(found["kdigo_aki"]["value"].mean()) < 0.6  # type: ignore[arg-type]


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs real data at SLICES_SHARED_DATA or ../shared/data")
def test_hourly_tables_give_kidney_injury(cli: CommandLine) -> None:
    raw = SHARED / "yaib-mimic-demo" / "los"
    typed = ["data=ricu", f"data.source.raw={raw}", "data.source.task_type=regression"]
    injury = prepare(cli, ["kdigo_aki"], *typed)["kdigo_aki"]
    assert 0.02 < float(injury["value"].mean()) < 0.6  # type: ignore[arg-type]
    assert injury["stay_id"].n_unique() > 60
