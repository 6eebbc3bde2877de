"""The challenge's outcomes, and the organ failures that its measurements tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from physionet_raw import OUTCOMES, labels, prepared, stay_text, write_folder
from stored import counts


def test_outcomes_by_their_rules(tmp_path: Path) -> None:
    rows = [
        "1,6,1,5,-1,0",
        "2,6,1,-1,20,1",
        "3,6,1,14,365,7",
        "4,x,,28,366,0",
        "4,1,1,3,3,1",
        "5,1",
        "6,1,1,7,-23,",
        "99,1,1,1,1,1",
        "x,1,1,1,1,1",
    ]
    write_folder(tmp_path / "raw", "c", {n: stay_text(n) for n in range(1, 8)}, OUTCOMES + "\n".join(rows))
    store = prepared(tmp_path / "raw")
    assert labels(store, "in_hospital_mortality") == {1: 0.0, 2: 1.0, 4: 0.0}
    assert labels(store, "length_of_stay") == {1: 5.0, 3: 14.0, 4: 28.0, 6: 7.0}
    assert labels(store, "length_of_stay_class") == {1: 0.0, 3: 2.0, 4: 3.0, 6: 1.0}
    assert labels(store, "survival_class") == {1: 2.0, 2: 0.0, 3: 1.0, 4: 2.0}
    found = counts(store)
    for rule in ("repeated_outcome", "malformed_outcome", "outcome_without_id", "outcome_without_stay"):
        assert found[rule] == 1, rule
    assert (found["unknown_length_of_stay"], found["unknown_survival"], found["unknown_death"]) == (
        1,
        1,
        2,
    )
    assert found["no_outcome"] == 2


def test_numbers_that_are_none_are_no_outcomes(tmp_path: Path) -> None:
    rows = ["1,6,1,nan,nan,nan", "2,6,1,inf,inf,inf", "3,6,1,5,400,0", "1e30,6,1,5,-1,1", "4.5,6,1,5,-1,1"]
    texts = {n: stay_text(n) for n in (1, 2, 3)}
    write_folder(tmp_path / "raw", "a", texts, OUTCOMES + "\n".join(rows))
    (tmp_path / "raw" / "set-a" / f"{10**25}.txt").write_text(stay_text(1))
    store = prepared(tmp_path / "raw")
    assert store.stay_id.tolist() == [1, 2, 3]
    for task in ("in_hospital_mortality", "length_of_stay", "length_of_stay_class", "survival_class"):
        assert list(labels(store, task)) == [3], task
    found = counts(store)
    assert found["outcome_without_id"] == 2 and found["ignored_file"] == 1
    for rule in ("unknown_length_of_stay", "unknown_survival", "unknown_death"):
        assert found[rule] == 2, rule


def test_without_outcomes_stays_are_unlabelled(tmp_path: Path) -> None:
    write_folder(tmp_path / "raw", "c", {1: stay_text(1, "30:00,GCS,5\n")})
    store = prepared(tmp_path / "raw")
    assert len(store) == 1 and labels(store, "in_hospital_mortality") == {}
    assert labels(store, "organ_failure") == {1: 1.0} and counts(store)["no_outcome"] == 1


ORGANS = ("renal", "respiratory", "cardiovascular", "coagulation", "liver", "neurological")


def organ_labels(tmp_path: Path, lines: str) -> dict[str, float]:
    write_folder(tmp_path / "raw", "a", {1: stay_text(1, lines.replace(" ", "\n") + "\n")})
    table = prepared(tmp_path / "raw").labels("organ_failure")
    assert set(table["prediction_time"]) <= {24.0}
    return {ORGANS[column]: value for column, value in table.select("column", "value").iter_rows()}


def hourly(amount: str, hours: range = range(25, 49)) -> str:
    return " ".join(f"{hour}:00,Urine,{amount}" for hour in hours)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("24:00,Creatinine,2", {"renal": 1.0}),
        ("47:00,Creatinine,1.9", {"renal": 0.0}),
        (hourly("20"), {"renal": 1.0}),  # 480 mL
        (hourly("21"), {"renal": 0.0}),  # 504 mL
        (hourly("11") + " " + hourly("10"), {"renal": 0.0}),  # two amounts an hour, 504 mL together
        (hourly("20") + " 24:00,Urine,500", {"renal": 1.0}),  # that of 24:00 was passed before
        (hourly("20", range(31, 49)), {}),  # the first six hours are not charted
        (hourly("1", range(25, 43)), {}),  # nor the last six
        (hourly("1", range(25, 43)) + " 30:00,Creatinine,1", {"renal": 0.0}),
        (hourly("125", range(30, 49, 6)), {"renal": 0.0}),
        (hourly("124", range(30, 49, 6)), {"renal": 1.0}),
        ("30:00,FiO2,0.5 30:00,PaO2,149", {"respiratory": 1.0}),
        ("30:00,PaO2,149 30:00,FiO2,0.5", {"respiratory": 1.0}),
        ("30:00,FiO2,0.5 30:00,PaO2,150", {"respiratory": 0.0}),
        ("20:10,FiO2,0.5 26:10,PaO2,149", {"respiratory": 1.0}),
        ("20:10,FiO2,0.5 26:11,PaO2,149", {}),  # too long ago
        ("20:00,FiO2,1 25:00,FiO2,0.4 26:00,PaO2,149", {"respiratory": 0.0}),
        ("26:00,PaO2,50 27:00,FiO2,1", {}),
        ("30:00,MAP,64 31:00,NIMAP,64", {"cardiovascular": 1.0}),
        ("30:00,MAP,64 31:00,NIMAP,65", {"cardiovascular": 0.0}),
        ("30:00,MAP,64 30:00,NIMAP,64 40:00,MAP,80", {"cardiovascular": 0.0}),  # once
        ("30:00,MAP,40", {}),
        ("32:00,Platelets,99", {"coagulation": 1.0}),
        ("32:00,Platelets,100", {"coagulation": 0.0}),
        ("33:00,Bilirubin,2", {"liver": 1.0}),
        ("33:00,Bilirubin,1.9", {"liver": 0.0}),
        ("34:00,GCS,15 35:00,GCS,12", {"neurological": 1.0}),
        ("34:00,GCS,13", {"neurological": 0.0}),
    ],
)
def test_organs_fail_from_a_sofa_grade_of_two(lines: str, expected: dict[str, float], tmp_path: Path) -> None:
    assert organ_labels(tmp_path, lines) == expected


def test_organ_failures_come_from_the_second_day(tmp_path: Path) -> None:
    first_day = "10:00,FiO2,1 10:00,PaO2,60 11:00,MAP,40 12:00,MAP,40 13:00,Platelets,9 14:00,Bilirubin,20"
    lines = first_day + " 15:00,GCS,3 23:59,Creatinine,9 " + hourly("1", range(1, 25))
    assert organ_labels(tmp_path, lines) == {}
