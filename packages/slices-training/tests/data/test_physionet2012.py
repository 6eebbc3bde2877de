"""The challenge's files as released, and with every fault we could think of."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from slices.training.data import (
    DataConfig,
    DatasetError,
    SplitConfig,
    StayDataModule,
    StayStore,
    build_source,
    prepare_dataset,
)
from slices.training.data.sources.physionet2012 import files

DESCRIPTORS = """Time,Parameter,Value
00:00,RecordID,{id}
00:00,Age,54
00:00,Gender,0
00:00,Height,-1
00:00,ICUType,4
00:00,Weight,-1
"""
OUTCOMES = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n"


def stay_text(number: int, lines: str = "") -> str:
    return DESCRIPTORS.format(id=number) + lines


def write_folder(raw: Path, name: str, texts: dict[int, str], outcomes: str | None = None) -> None:
    (raw / f"set-{name}").mkdir(parents=True)
    for number, text in texts.items():
        (raw / f"set-{name}" / f"{number}.txt").write_text(text)
    if outcomes is not None:
        (raw / f"Outcomes-{name}.txt").write_text(outcomes)


def prepared(raw: Path, **options: Any) -> StayStore:
    source = build_source({"name": "physionet2012", "raw": str(raw), **options})
    return prepare_dataset(source, raw.parent / "dataset")


def events(store: StayStore, stay: int) -> list[tuple[float, str, float]]:
    row = int(np.flatnonzero(store.stay_id == stay)[0])
    at = slice(store.offsets[row], store.offsets[row + 1])
    names = [store.variables[v].name for v in store.variable[at]]
    return [
        (round(float(t), 4), n, round(float(v), 4))
        for t, n, v in zip(store.time[at], names, store.value[at], strict=True)
    ]


def dropped(store: StayStore) -> dict[str, int]:
    return {rule: entry["count"] for rule, entry in store.manifest.drops.items()}


def labels(store: StayStore, task: str) -> dict[int, float]:
    return dict(store.labels(task).select("stay_id", "value").iter_rows())


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
    assert dropped(store) == {"unknown_value": 1}
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
    before, after = dropped(sound), dropped(faulty)
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
    assert repaired in events(store, 1) and dropped(store)[rule] == 1


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
    assert dropped(store)["same_minute"] == 1 and dropped(store)["out_of_range"] == 1


def test_two_amounts_in_one_minute_add_up(tmp_path: Path) -> None:
    lines = "01:00,Urine,80\n01:00,Urine,90\n02:00,Urine,30\n03:00,Urine,4000\n03:00,Urine,3000\n"
    write_folder(tmp_path / "raw", "a", {1: stay_text(1, lines)})
    store = prepared(tmp_path / "raw")
    urine = [event for event in events(store, 1) if event[1] == "Urine"]
    assert urine == [(1.0, "Urine", 170.0), (2.0, "Urine", 30.0)]
    assert dropped(store)["same_minute"] == 2
    assert dropped(store)["out_of_range"] == 1  # 7 litres in a minute are none, however they are charted
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
    counts = dropped(store)
    assert (
        counts["bad_icu_type"],
        counts["no_record_id"],
        counts["other_record_id"],
        counts["no_header"],
    ) == (1, 2, 1, 2)


def test_sets_packed_and_unpacked_give_the_same(tmp_path: Path) -> None:
    texts = {n: stay_text(n, f"01:00,HR,{n}\r\n") for n in (70, 80)}
    write_folder(tmp_path / "folder", "a", texts)
    for kind in ("tar", "zip"):
        (tmp_path / kind).mkdir()
    with tarfile.open(tmp_path / "tar" / "set-a.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "folder" / "set-a", "set-a")
    with zipfile.ZipFile(tmp_path / "zip" / "set-a.zip", "w") as archive:
        archive.writestr("__MACOSX/._70.txt", b"rubbish")
        for number, text in texts.items():
            archive.writestr(f"set-a/{number}.txt", text)
    stores = [
        prepare_dataset(
            build_source({"name": "physionet2012", "raw": str(tmp_path / kind)}), tmp_path / f"of-{kind}"
        )
        for kind in ("folder", "tar", "zip")
    ]
    assert len({store.manifest.fingerprint for store in stores}) == 1
    assert dropped(stores[2])["ignored_file"] == 1


def test_a_stay_in_two_sets_counts_once(tmp_path: Path) -> None:
    outcomes = OUTCOMES + "1,6,1,5,-1,1\n"
    write_folder(tmp_path / "raw", "a", {1: stay_text(1)}, outcomes)
    write_folder(tmp_path / "raw", "b", {1: stay_text(1), 2: stay_text(2)}, outcomes + "2,6,1,5,-1,0\n")
    store = prepared(tmp_path / "raw")
    assert store.stay_id.tolist() == [1, 2] and store.stays["set"].to_list() == ["a", "b"]
    assert dropped(store)["repeated_stay"] == 1
    assert labels(store, "in_hospital_mortality") == {1: 1.0, 2: 0.0}


def test_a_set_or_outcomes_added_later_make_another_dataset(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_folder(raw, "a", {1: stay_text(1)})
    (raw / "README.md").write_text("not of the challenge")
    prepared(raw)
    (raw / "README.md").write_text("nobody reads this")
    prepared(raw)
    write_folder(raw, "b", {2: stay_text(2)})
    with pytest.raises(DatasetError, match=r"data\.source\.raw was 1 file .* is 2 files .*overwrite=true"):
        prepared(raw)


def test_an_interrupted_set_is_read_again_where_an_earlier_set_changed(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_folder(raw, "a", {1: stay_text(1)})
    write_folder(raw, "b", {2: stay_text(2), 3: stay_text(3)})
    write_folder(raw, "c", {4: ""})
    (raw / "set-c" / "4.txt").unlink()
    with pytest.raises(ValueError, match="set-c holds no file"):
        prepared(raw)
    (raw / "set-a" / "2.txt").write_text(stay_text(2))
    (raw / "set-c" / "4.txt").write_text(stay_text(4))
    assert prepared(raw).stays.select("stay_id", "set").rows() == [(1, "a"), (2, "a"), (3, "b"), (4, "c")]


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
    counts = dropped(store)
    for rule in ("repeated_outcome", "malformed_outcome", "outcome_without_id", "outcome_without_stay"):
        assert counts[rule] == 1, rule
    assert (counts["unknown_length_of_stay"], counts["unknown_survival"], counts["unknown_death"]) == (
        1,
        1,
        2,
    )
    assert counts["no_outcome"] == 2


def test_numbers_that_are_none_are_no_outcomes(tmp_path: Path) -> None:
    rows = ["1,6,1,nan,nan,nan", "2,6,1,inf,inf,inf", "3,6,1,5,400,0", "1e30,6,1,5,-1,1", "4.5,6,1,5,-1,1"]
    texts = {n: stay_text(n) for n in (1, 2, 3)}
    write_folder(tmp_path / "raw", "a", texts, OUTCOMES + "\n".join(rows))
    (tmp_path / "raw" / "set-a" / f"{10**25}.txt").write_text(stay_text(1))
    store = prepared(tmp_path / "raw")
    assert store.stay_id.tolist() == [1, 2, 3]
    for task in ("in_hospital_mortality", "length_of_stay", "length_of_stay_class", "survival_class"):
        assert list(labels(store, task)) == [3], task
    counts = dropped(store)
    assert counts["outcome_without_id"] == 2 and counts["ignored_file"] == 1
    for rule in ("unknown_length_of_stay", "unknown_survival", "unknown_death"):
        assert counts[rule] == 2, rule


def test_without_outcomes_stays_are_unlabelled(tmp_path: Path) -> None:
    write_folder(tmp_path / "raw", "c", {1: stay_text(1, "30:00,GCS,5\n")})
    store = prepared(tmp_path / "raw")
    assert len(store) == 1 and labels(store, "in_hospital_mortality") == {}
    assert labels(store, "organ_failure") == {1: 1.0} and dropped(store)["no_outcome"] == 1


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


def make_archive(path: Path) -> None:
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w:gz") as tar:
        for number in range(100, 140):
            text = stay_text(number, "".join(f"01:00,HR,{v}\n" for v in rng.integers(40, 140, 50))).encode()
            entry = tarfile.TarInfo(f"set-a/{number}.txt")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))


def test_a_truncated_archive_is_named(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    make_archive(raw / "set-a.tar.gz")
    whole = (raw / "set-a.tar.gz").read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 5):
        (raw / "set-a.tar.gz").write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"set-a.tar.gz is truncated or damaged.*fetch it again"):
            prepared(raw)
    assert not (tmp_path / "dataset").exists()


@pytest.mark.parametrize("kind", ["set-a.tar.gz", "set-a.zip", "set-a/100.txt", "Outcomes-a.txt"])
@pytest.mark.parametrize(
    "error",
    [PermissionError(errno.EACCES, "Permission denied"), OSError(errno.EIO, "Input/output error")],
)
def test_a_file_that_the_system_does_not_give_is_not_called_damaged(
    kind: str, error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "raw"
    write_folder(raw, "a", {100: stay_text(100)}, OUTCOMES + "100,6,1,5,-1,0\n")
    if kind.endswith(".tar.gz"):
        make_archive(raw / kind)
    elif kind.endswith(".zip"):
        with zipfile.ZipFile(raw / kind, "w") as archive:
            archive.writestr("set-a/100.txt", stay_text(100))
    really_open = io.open

    def guarded(file: Any, *rest: Any, **options: Any) -> Any:
        if Path(file) == raw / kind:
            raise error
        return really_open(file, *rest, **options)

    monkeypatch.setattr(io, "open", guarded)
    monkeypatch.setattr("builtins.open", guarded)
    with pytest.raises(type(error), match=f"{error.strerror}.*{raw}") as raised:
        prepared(raw)
    assert raised.value.errno == error.errno
    assert not any(word in str(raised.value) for word in ("damaged", "fetch it again"))


def test_damage_inside_an_archive_is_called_so(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    make_archive(raw / "set-a.tar.gz")
    whole = (raw / "set-a.tar.gz").read_bytes()
    middle = len(whole) // 2
    with zipfile.ZipFile(tmp_path / "set-a.zip", "w") as archive:
        archive.writestr("set-a/100.txt", stay_text(100))
    flipped = (tmp_path / "set-a.zip").read_bytes().replace(b"RecordID", b"RecordIE")
    damaged = {
        "set-a.tar.gz": [
            whole[:middle] + bytes(20) + whole[middle + 20 :],
            b"not gzip at all",
            whole[:-8] + bytes(8),  # another check sum
            gzip.compress(gzip.decompress(whole)[:700]),
            gzip.compress(b"no tar"),
        ],
        "set-a.zip": [flipped, flipped[:-10]],
    }
    for name, contents in damaged.items():
        for content in contents:
            (raw / name).write_bytes(content)
            with pytest.raises(ValueError, match=rf"{name} is truncated or damaged .*fetch it again"):
                prepared(raw)
        (raw / name).unlink()


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda raw: None, FileNotFoundError, "has none of set-a, set-b, set-c: set data.source.raw"),
        (lambda raw: (raw / "set-a").mkdir(), ValueError, "set-a holds no file like 132539.txt"),
        (lambda raw: (raw / "set-a.zip").write_text("no"), ValueError, "set-a.zip is truncated or damaged"),
        (
            lambda raw: write_folder(raw, "a", {1: stay_text(1)}, ""),
            ValueError,
            "Outcomes-a.txt cannot be read",
        ),
        (
            lambda raw: write_folder(raw, "a", {1: stay_text(1)}, "a,b\n1,2\n"),
            ValueError,
            "no column RecordID, Length",
        ),
        (
            lambda raw: write_folder(raw, "a", {1: stay_text(1)}, OUTCOMES),
            ValueError,
            "Outcomes-a.txt holds no outcome",
        ),
    ],
)
def test_what_cannot_be_read_is_named_with_a_remedy(
    spoil: Any, error: Any, message: str, tmp_path: Path
) -> None:
    (tmp_path / "raw").mkdir()
    spoil(tmp_path / "raw")
    with pytest.raises(error, match=message):
        prepared(tmp_path / "raw")


def test_a_set_that_is_asked_for_must_be_there(tmp_path: Path) -> None:
    write_folder(tmp_path / "raw", "a", {1: stay_text(1)})
    with pytest.raises(FileNotFoundError, match=r"has no set-b \(looked for set-b.tar.gz.*sets found: a\)"):
        prepared(tmp_path / "raw", sets=["b"])


def test_where_the_files_lie_does_not_decide_what_a_dataset_is(tmp_path: Path) -> None:
    write_folder(tmp_path / "raw", "a", {1: stay_text(1)})
    prepared(tmp_path / "raw")
    moved = build_source({"name": "physionet2012", "raw": "elsewhere"})
    assert len(prepare_dataset(moved, tmp_path / "dataset")) == 1


def test_downloads_are_verified_and_only_what_is_missing(tmp_path: Path) -> None:
    site, raw = tmp_path / "site", tmp_path / "raw"
    site.mkdir()
    make_archive(site / "set-a.tar.gz")
    (site / "Outcomes-a.txt").write_text(OUTCOMES + "100,6,1,5,-1,0\n")
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.name}" for path in sorted(site.iterdir())]
    (site / "SHA256SUMS.txt").write_text("\n".join(sums))
    address = site.as_uri() + "/"
    files.download(raw, ("a",), address)
    assert (raw / "set-a.tar.gz").read_bytes() == (site / "set-a.tar.gz").read_bytes()
    os.remove(site / "SHA256SUMS.txt")
    files.download(raw, ("a",), address)  # nothing is missing, nothing is asked for
    with pytest.raises(OSError, match=r"cannot download .*SHA256SUMS.txt.*by hand into data.source.raw"):
        files.download(raw, ("b",), address)
    (site / "SHA256SUMS.txt").write_text("0" * 64 + " set-a.tar.gz\n")
    os.remove(raw / "set-a.tar.gz")
    with pytest.raises(ValueError, match="does not match its published SHA-256"):
        files.download(raw, ("a",), address)
    assert [path.name for path in raw.iterdir()] == ["Outcomes-a.txt"]


@pytest.mark.parametrize("layout", ["{} {}", "{}  {}", "{} *{}", "{}\t{}", "\n{}  {} \r\n"])
def test_checksum_listings_as_the_usual_tools_write_them(layout: str, tmp_path: Path) -> None:
    site, raw = tmp_path / "site", tmp_path / "raw"
    site.mkdir()
    make_archive(site / "set-a.tar.gz")
    (site / "Outcomes-a.txt").write_text(OUTCOMES + "100,6,1,5,-1,0\n")
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in site.iterdir()}
    lines = [layout.format(checksum, name) for name, checksum in sums.items()]
    lines.append(layout.format("0" * 64, "a name with spaces.txt"))
    (site / "SHA256SUMS.txt").write_text("\n".join(lines), newline="")
    files.download(raw, ("a",), site.as_uri() + "/")
    assert {path.name for path in raw.iterdir()} == {"set-a.tar.gz", "Outcomes-a.txt"}


def test_a_file_without_a_published_sum_is_not_downloaded(tmp_path: Path) -> None:
    site, raw = tmp_path / "site", tmp_path / "raw"
    site.mkdir()
    make_archive(site / "set-a.tar.gz")
    (site / "SHA256SUMS.txt").write_text("0" * 64 + "  set-b.tar.gz\nnonsense\n")
    with pytest.raises(ValueError, match=r"set-a.tar.gz, Outcomes-a.txt: not listed in .*SHA256SUMS.txt"):
        files.download(raw, ("a",), site.as_uri() + "/")
    assert not raw.exists()


@pytest.mark.slow
def test_the_real_sets(shared_data: Path, tmp_path: Path) -> None:
    start = time.process_time()
    source = build_source(
        {"name": "physionet2012", "raw": str(shared_data / "physionet2012"), "sets": ["a", "b"]}
    )
    store = prepare_dataset(source, tmp_path / "d")
    assert time.process_time() - start < 40
    assert store.stays["set"].value_counts().sort("set").rows() == [("a", 4000), ("b", 4000)]
    deaths = (
        store.labels("in_hospital_mortality")
        .join(store.stays, on="stay_id")
        .group_by("set")
        .agg(pl.col("value").sum())
    )
    assert dict(deaths.iter_rows()) == {"a": 554.0, "b": 568.0}
    assert store.manifest.drops["pH_times_100"]["by_set"] == {"a": 3}
    assert store.manifest.drops["unknown_value"]["by_set"]["a"] == 1894 + 326 + 3
    empty = np.isin(store.stay_id, [140501, 140936, 141264])
    dynamic = ~np.array([variable.static for variable in store.variables])[store.variable]
    per_stay = np.add.reduceat(dynamic.astype(int), store.offsets[:-1])
    assert per_stay[empty].tolist() == [0, 0, 0]
