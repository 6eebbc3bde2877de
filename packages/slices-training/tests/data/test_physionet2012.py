"""The challenge's stays as released, and with every fault we could think of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from physionet_raw import OUTCOMES, events, labels, prepared, stay_text, write_folder
from slices.training.data import (
    DataConfig,
    DatasetError,
    SplitConfig,
    StayDataModule,
    StayStore,
    build_source,
)
from stored import counts


def test_a_stay_is_read_as_it_is(tmp_path: Path) -> None:
    text = stay_text(132539, "00:07,HR,73\n10:30,AST,1.604e+04\n48:00,Temp,35.1\n").replace(
        "Height,-1", "Height,170"
    )
    write_folder(tmp_path / "raw", "a", {132539: text}, OUTCOMES + "132539,6,1,5,-1,0\n")
    store = prepared(tmp_path / "raw")
    assert events(store, 132539) == [
        (0.0, "Age", 54.0),
        (0.0, "Gender", 0.0),
        (0.0, "Height", 170.0),
        (0.0, "ICUType_coronary", 0.0),
        (0.0, "ICUType_cardiac_surgery", 0.0),
        (0.0, "ICUType_medical", 0.0),
        (0.0, "ICUType_surgical", 1.0),
        (0.1167, "HR", 73.0),
        (10.5, "AST", 16040.0),
        (48.0, "Temp", 35.1),
    ]
    assert (store.stays["set"][0], store.length_hours[0]) == ("a", 48.0)
    assert counts(store) == {"unknown_value": 1}
    assert labels(store, "in_hospital_mortality") == {132539: 0.0}
    assert len([v for v in store.variables if not v.static]) == 37


FAULTS = {  # line -> the rule that counts it
    "00:10,HR": "malformed_line",
    "00:10,HR,80,90": "malformed_line",
    "": "blank_line",
    "Time,Parameter,Value": "repeated_header",
    "0:1x,HR,80": "bad_clock",
    "-1:00,HR,80": "bad_clock",
    ",HR,80": "bad_clock",
    "00:75,HR,80": "bad_clock",
    "48:01,HR,80": "after_48_hours",
    "100:00,HR,80": "after_48_hours",
    "00:10,,80": "blank_parameter",
    "00:10,Zebra,80": "unknown_parameter",
    "00:10,HR,high": "not_a_number",
    "00:10,HR,": "not_a_number",
    "00:10,HR,36.6 C": "not_a_number",
    "00:10,HR,nan": "not_finite",
    "00:10,HR,inf": "not_finite",
    "00:10,HR,1e300": "not_finite",
    "00:10,HR,-1": "unknown_value",
    "00:10,HR,0": "out_of_range",
    "00:10,HR,-80": "out_of_range",
    "00:10,HR,99999": "out_of_range",
    "00:10,Temp,-17.8": "out_of_range",
    "00:10,MechVent,0": "out_of_range",
    "00:10,Age,300": "late_descriptor",
    "00:00,Age,300": "repeated_descriptor",
    "00:00,RecordID,132539": "",
    "00:10,\x00\u00ff,1": "unknown_parameter",
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> StayStore:
    directory = tmp_path_factory.mktemp("sound")
    write_folder(directory / "raw", "a", {132539: stay_text(132539, "00:07,HR,73\n10:30,HR,75\n")})
    return prepared(directory / "raw")


@pytest.mark.parametrize(("line", "rule"), FAULTS.items())
def test_a_faulty_line_is_left_out_and_counted(
    line: str, rule: str, sound: StayStore, tmp_path: Path
) -> None:
    write_folder(tmp_path / "raw", "a", {132539: stay_text(132539, f"00:07,HR,73\n{line}\n10:30,HR,75\n")})
    faulty = prepared(tmp_path / "raw")
    assert events(sound, 132539) == events(faulty, 132539)
    before, after = counts(sound), counts(faulty)
    assert after == (before | {rule: before.get(rule, 0) + 1} if rule else before)


@pytest.mark.parametrize(
    ("line", "repaired", "rule"),
    [
        ("01:00,pH,735", (1.0, "pH", 7.35), "pH_times_100"),
        ("01:00,pH,73.5", (1.0, "pH", 7.35), "pH_times_10"),
        ("01:00,Temp,98.6", (1.0, "Temp", 37.0), "Temp_fahrenheit"),
        ("01:00,FiO2,40", (1.0, "FiO2", 0.4), "FiO2_percent"),
        ("01:00,SaO2,0.97", (1.0, "SaO2", 97.0), "SaO2_fraction"),
        ("01:00,HCT,0.3", (1.0, "HCT", 30.0), "HCT_fraction"),
        ("01:00,Weight,80000", (1.0, "Weight", 80.0), "Weight_grams"),
    ],
)
def test_a_unit_that_can_be_told_is_repaired_and_counted(
    line: str, repaired: tuple[float, str, float], rule: str, tmp_path: Path
) -> None:
    write_folder(tmp_path / "raw", "a", {1: stay_text(1, line + "\n")})
    store = prepared(tmp_path / "raw")
    assert repaired in events(store, 1) and counts(store)[rule] == 1


@pytest.mark.parametrize(("height", "repaired"), [("1.7", 170.0), ("70", 177.8), ("431.8", 170.0)])
def test_heights_in_other_units(height: str, repaired: float, tmp_path: Path) -> None:
    write_folder(tmp_path / "raw", "a", {1: stay_text(1).replace("Height,-1", f"Height,{height}")})
    assert (0.0, "Height", repaired) in events(prepared(tmp_path / "raw"), 1)


def test_two_values_in_one_minute_become_their_mean(tmp_path: Path) -> None:
    write_folder(
        tmp_path / "raw",
        "a",
        {1: stay_text(1, "01:00,MAP,80\n01:00,MAP,90\n01:01,MAP,10000\n01:01,MAP,70\n")},
    )
    store = prepared(tmp_path / "raw")
    assert [event for event in events(store, 1) if event[1] == "MAP"] == [
        (1.0, "MAP", 85.0),
        (1.0167, "MAP", 70.0),
    ]
    assert counts(store)["same_minute"] == 1 and counts(store)["out_of_range"] == 1


def test_two_amounts_in_one_minute_add_up(tmp_path: Path) -> None:
    lines = "01:00,Urine,80\n01:00,Urine,90\n02:00,Urine,30\n03:00,Urine,4000\n03:00,Urine,3000\n"
    write_folder(tmp_path / "raw", "a", {1: stay_text(1, lines)})
    store = prepared(tmp_path / "raw")
    urine = [event for event in events(store, 1) if event[1] == "Urine"]
    assert urine == [(1.0, "Urine", 170.0), (2.0, "Urine", 30.0)]
    assert counts(store)["same_minute"] == 2
    assert counts(store)["out_of_range"] == 1  # 7 litres in a minute are none, however they are charted
    assert [v.name for v in store.variables if v.aggregate == "sum"] == ["Urine"]


@pytest.mark.parametrize(("aggregate", "map_of_an_hour"), [("mean", 80.0), ("last", 70.0)])
def test_hourly_cells_hold_the_urine_of_the_hour(
    tmp_path: Path, aggregate: Any, map_of_an_hour: float
) -> None:
    lines = "01:00,Urine,80\n01:00,Urine,90\n01:30,Urine,30\n01:00,MAP,90\n01:30,MAP,70\n02:00,Urine,5\n"
    write_folder(tmp_path / "raw", "a", {1: stay_text(1, lines)})
    config = DataConfig(
        source={"name": "physionet2012", "raw": str(tmp_path / "raw")},
        dataset_dir=str(tmp_path / "dataset"),
        aggregate=aggregate,
        splits=SplitConfig(val_fraction=0, test_fraction=0),
    )
    names = [variable.name for variable in build_source(config.source).variables]
    for order in (names, names[::-1]):
        data = StayDataModule(config)
        data.prepare_data()
        data.setup()
        data.feed(order)
        batch = data.cut(np.array([0]), normalize=False)
        urine, pressure = (order.index(name) for name in ("Urine", "MAP"))
        assert batch["timeseries"][0, :4, urine].tolist() == [0.0, 200.0, 5.0, 0.0]
        assert batch["counts"][0, :4, urine].tolist() == [0.0, 2.0, 1.0, 0.0]
        assert batch["timeseries"][0, 1, pressure] == map_of_an_hour


def test_a_dataset_of_an_earlier_version_is_refused_with_the_remedy(tmp_path: Path) -> None:
    write_folder(tmp_path / "raw", "a", {1: stay_text(1)})
    manifest = prepared(tmp_path / "raw").directory / "manifest.json"
    plain = json.loads(manifest.read_text())
    assert plain["source"]["version"] > 1
    plain["source"]["version"] = 1
    for variable in plain["variables"]:
        del variable["aggregate"]
    manifest.write_text(json.dumps(plain))
    with pytest.raises(DatasetError, match=r"prepared with version=1, asked for version=.*overwrite=true"):
        prepared(tmp_path / "raw")


def test_a_late_descriptor_does_not_stand_in_for_the_one_at_admission(tmp_path: Path) -> None:
    write_folder(tmp_path / "raw", "a", {1: stay_text(1).replace("00:00,Age", "00:10,Age,300\n00:00,Age")})
    store = prepared(tmp_path / "raw")
    assert (0.0, "Age", 54.0) in events(store, 1)
    assert counts(store)["late_descriptor"] == 1 and "repeated_descriptor" not in counts(store)


def test_descriptors_that_are_unknown_or_wrong(tmp_path: Path) -> None:
    text = (
        stay_text(1)
        .replace("ICUType,4", "ICUType,9")
        .replace("Gender,0", "Gender,-1")
        .replace("Age,54", "Age,540")
    )
    write_folder(tmp_path / "raw", "a", {1: text, 2: "", 3: stay_text(99), 4: "00:00,Age,50\n"})
    store = prepared(tmp_path / "raw")
    assert [events(store, stay) for stay in (1, 2)] == [[], []]
    assert events(store, 4) == [(0.0, "Age", 50.0)]
    found = counts(store)
    assert (
        found["bad_icu_type"],
        found["no_record_id"],
        found["other_record_id"],
        found["no_header"],
    ) == (1, 2, 1, 2)
