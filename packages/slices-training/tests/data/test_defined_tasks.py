"""Tasks of one's own, from definitions in the data section, for whatever source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ricu_raw import Ricu
from slices.training.data import DataConfig, SplitConfig, StayDataModule, dataset_info, prepare_dataset

SYNTHETIC = {"name": "synthetic", "n_stays": 60}


def config(folder: Path, source: dict[str, Any], **definitions: Any) -> DataConfig:
    return DataConfig(source=source, dataset_dir=str(folder / "d"), definitions=definitions)


def ready(given: DataConfig, task: str, **options: Any) -> StayDataModule:
    data = StayDataModule(given, task=task, **options)
    data.prepare_data()
    data.setup()
    return data


def test_a_defined_task_is_known_before_and_after_preparing_and_gives_batches(tmp_path: Path) -> None:
    given = config(
        tmp_path,
        SYNTHETIC,
        died={"kind": "mortality", "where": "hospital", "at": 24.0},
        days={"kind": "length_of_stay", "where": "hospital", "at": 24.0},
    )
    assert {"died", "days", "in_hospital_mortality"} <= set(dataset_info(given).tasks)
    died = ready(given, "died")
    own = ready(given, "in_hospital_mortality")
    assert died.samples.label is not None and own.samples.label is not None
    assert died.samples.label.tolist() == own.samples.label.tolist()
    assert set(died.samples.until.tolist()) == {24.0} and set(own.samples.until.tolist()) == {48.0}
    days = ready(given, "days")
    assert days.samples.label is not None and days.samples.label.min() > 1.0
    assert dataset_info(given).tasks["days"].task_type == "regression"


def test_another_definition_is_another_dataset(tmp_path: Path) -> None:
    ready(config(tmp_path, SYNTHETIC, died={"kind": "mortality", "where": "hospital"}), "died")
    other = config(tmp_path, SYNTHETIC, died={"kind": "mortality", "where": "hospital", "at": 12.0})
    with pytest.raises(ValueError, match=r"not the dataset asked for.*definitions"):
        ready(other, "died")


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ({"kind": "mortalty"}, "did you mean 'mortality'"),
        ({"kind": "mortality", "att": 3}, "unknown option 'att': did you mean 'at'"),
        ({"kind": "mortality", "where": "icu"}, "needs an outcome: unknown outcome 'died_in_icu'"),
        ({"kind": "kdigo_aki"}, "needs a variable: unknown variable 'crea'"),
    ],
)
def test_a_definition_that_cannot_be_says_why_and_leaves_nothing(
    definition: dict[str, Any], message: str, tmp_path: Path, left_behind: Any
) -> None:
    with pytest.raises(ValueError, match=message):
        ready(config(tmp_path, SYNTHETIC, mine=definition), "mine")
    assert left_behind(tmp_path) == []


def test_a_definition_may_not_take_a_tasks_name(tmp_path: Path) -> None:
    taken = {"length_of_stay": {"kind": "length_of_stay", "where": "hospital"}}
    with pytest.raises(ValueError, match="'length_of_stay' is a task of the source itself"):
        ready(config(tmp_path, SYNTHETIC, **taken), "length_of_stay")


def test_a_pool_passes_outcomes_on(tmp_path: Path) -> None:
    member = {"source": SYNTHETIC, "renaming": "synthetic"}
    other = {"source": SYNTHETIC | {"seed": 1}, "renaming": "synthetic"}
    source = {"name": "pool", "members": {"one": member, "two": other}}
    data = ready(config(tmp_path, source, died={"kind": "mortality", "where": "hospital"}), "died")
    own = ready(data.config, "in_hospital_mortality")
    assert data.samples.label is not None and own.samples.label is not None
    assert len(data.samples.label) == 120 and data.samples.label.tolist() == own.samples.label.tolist()


def test_kidney_injury_and_death_of_mimic(shared_data: Path, tmp_path: Path) -> None:
    """The MEDS demo: labels from its own codes."""
    source = {"name": "meds", "raw": str(shared_data / "mimic-iv-demo-meds")}
    given = config(
        tmp_path,
        source,
        died={"kind": "mortality", "where": "hospital"},
        died_here={"kind": "mortality", "where": "icu"},
        aki={"kind": "kdigo_aki", "within": 12.0},
    )
    hospital, icu = ready(given, "died"), ready(given, "died_here")
    assert hospital.samples.label is not None and icu.samples.label is not None
    deaths = [int(data.samples.label.sum()) for data in (hospital, icu)]  # type: ignore[union-attr]
    assert 10 <= deaths[1] <= deaths[0] <= 25  # of 140 stays; 15 of the 100 patients die in hospital
    here, there = (dict(zip(d.samples.stay, d.samples.label, strict=True)) for d in (icu, hospital))  # type: ignore[arg-type]
    assert all(there[stay] for stay, died in here.items() if died)  # who dies in the unit dies in hospital
    aki = ready(given, "aki", per_step=False)
    assert aki.samples.label is not None
    assert 0.02 < aki.samples.label.mean() < 0.6 and len(set(aki.samples.stay.tolist())) > 80


@pytest.fixture
def injured_in_hour_5(ricu: Ricu) -> dict[str, Any]:
    """The source of one stay of ten hours: creatinine of 1 until the row of hour 5 has 3."""
    dyn = pl.DataFrame({"stay_id": 1, "time": range(10), "crea": [1.0] * 5 + [3.0] * 5})
    ricu.write({"dyn": dyn, "sta": pl.DataFrame({"stay_id": [1]})})
    return ricu.options()


AKI = {"kind": "kdigo_aki", "within": 2, "urine": None}


def test_what_an_hourly_row_sums_up_is_known_when_its_hour_ends(
    injured_in_hour_5: dict[str, Any], tmp_path: Path
) -> None:
    """The injury of [5, 6) is to come at 4 and 5, which do not see its row, and has begun at 6."""
    given = config(tmp_path, injured_in_hour_5, aki=AKI)
    given.splits = SplitConfig(val_fraction=0.0, test_fraction=0.0)
    data = ready(given, "aki", per_step=False)
    labels = data.store.labels("aki").select("prediction_time", "value")
    assert dict(labels.iter_rows()) == {1.0: 0.0, 2.0: 0.0, 3.0: 0.0, 4.0: 1.0, 5.0: 1.0}
    batch = data.cut(np.arange(len(labels)), normalize=False)
    creatinine = batch["mask"][..., data.variables.index("crea")]
    for now, seen in zip(batch["prediction_time"].tolist(), creatinine.tolist(), strict=True):
        assert [hour for hour, is_seen in enumerate(seen) if is_seen] == list(range(int(now)))


def test_a_member_of_a_pool_knows_its_rows_when_it_does_alone(
    injured_in_hour_5: dict[str, Any], tmp_path: Path
) -> None:
    def labels(source: dict[str, Any], name: str) -> pl.DataFrame:
        given = config(tmp_path, source, aki=AKI)
        return prepare_dataset(given.build_source(), tmp_path / name).labels("aki")

    rows = [f"1,{hour},crea,{1 if hour < 5 else 3}" for hour in range(10)]
    (tmp_path / "rows.csv").write_text("\n".join(["stay_id,time,variable,value", *rows]))
    exact = {"source": {"name": "table", "raw": str(tmp_path / "rows.csv"), "vocabulary": "icu"}}
    pool = {"name": "pool", "members": {"exact": exact, "hourly": {"source": injured_in_hour_5}}}
    alone, pooled = labels(injured_in_hour_5, "alone"), labels(pool, "pool")
    columns = ("prediction_time", "value")
    of_member = pooled.filter(pl.col("stay_id") > 1)
    assert of_member.select(columns).rows() == alone.select(columns).rows()
    begun = pooled.filter(pl.col("stay_id") == 1, pl.col("value") > 0)["prediction_time"].to_list()
    assert begun == [3.0, 4.0]  # measured at 5, known at 5
