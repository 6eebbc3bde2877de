"""Tasks of one's own, from definitions in the data section, for whatever source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slices.training.data import DataConfig, StayDataModule, dataset_info

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
