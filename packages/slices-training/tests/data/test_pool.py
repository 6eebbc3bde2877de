"""Several sources as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from physionet_raw import stay_text, write_folder
from slices.training.data import DataConfig, SplitConfig, StayDataModule, Tally, build_source, prepare_dataset
from slices.training.data.sources.pool import IDS
from slices.training.data.splits import split_stays
from slices.training.data.vocabulary import read_vocabulary
from stored import events

SMALL = {"source": {"name": "synthetic", "n_stays": 30}, "renaming": "synthetic"}
OTHER = {"source": {"name": "synthetic", "n_stays": 20, "seed": 1}, "renaming": "synthetic"}


def pool(**members: Any) -> Any:
    return {"name": "pool", "members": members}


def test_members_keep_their_stays_labels_and_values_in_the_vocabularys_units(tmp_path: Path) -> None:
    store = prepare_dataset(build_source(pool(one=SMALL, two=OTHER)), tmp_path / "pool")
    one = prepare_dataset(build_source(SMALL["source"]), tmp_path / "one")
    two = prepare_dataset(build_source(OTHER["source"]), tmp_path / "two")
    assert store.stay_id.tolist() == [*one.stay_id, *(two.stay_id + IDS)]
    assert store.stays["set"].to_list() == ["one/synthetic"] * 30 + ["two/synthetic"] * 20
    names = [variable.name for variable in store.variables]
    assert names == [name for name in read_vocabulary("icu") if name in names] and len(names) == 36
    here = {variable.name: i for i, variable in enumerate(store.variables)}
    there = {variable.name: i for i, variable in enumerate(two.variables)}
    last = store.variable[store.offsets[30] :], store.value[store.offsets[30] :]
    for name, own, factor in (("hr", "heart_rate", 1), ("fio2", "fio2", 100), ("mg", "magnesium", 2.4305)):
        mapped = last[1][last[0] == here[name]]
        np.testing.assert_allclose(mapped, two.value[two.variable == there[own]] * factor, rtol=1e-5)
    dropped = store.manifest.drops["not_in_vocabulary"]["by_set"]
    assert set(dropped) == {"one", "two"} and store.manifest.counts["events"] < len(one.time) + len(two.time)
    labels, own_labels = store.labels("length_of_stay"), two.labels("length_of_stay")
    assert labels.filter(labels["stay_id"] >= IDS)["value"].to_list() == own_labels["value"].to_list()


def test_magnesium_is_in_the_vocabularys_unit_whichever_that_is(tmp_path: Path) -> None:
    write_folder(tmp_path / "raw", "a", {1: stay_text(1, "01:00,Mg,2.0\n")})
    physionet = {"name": "physionet2012", "raw": str(tmp_path / "raw")}
    (own,) = (v for v in build_source(physionet).variables if v.name == "Mg")
    assert own.unit == read_vocabulary("icu")["mg"].unit == "mg/dL"

    def pooled(name: str, renaming: str, **vocabulary: str) -> list[float]:
        member = {"source": physionet, "renaming": renaming}
        source = build_source(pool(one=member) | vocabulary)
        return [value for *_, v, value in events(prepare_dataset(source, tmp_path / name)) if v == "mg"]

    assert pooled("shipped", "physionet2012") == [2.0]
    molar, factor = tmp_path / "molar.yaml", tmp_path / "factor.yaml"
    molar.write_text("mg: {unit: mmol/L, low: 0.1, high: 5}\nMg: {unit: mmol/L}")
    factor.write_text("mg: {name: Mg, factor: 0.4114}")  # 1 mmol is 24.305 mg
    (value,) = pooled("molar", str(factor), vocabulary=str(molar))
    assert value == pytest.approx(2.0 * 10 / 24.305, rel=1e-3)
    with pytest.raises(ValueError, match=r"Mg in mg/dL, not mmol/L.*give a renaming"):
        build_source(pool(one={"source": physionet}) | {"vocabulary": str(molar)}).options()


def test_one_is_left_out_and_transferred_to(tmp_path: Path) -> None:
    config = DataConfig(
        source=pool(one=SMALL, two=OTHER),
        dataset_dir=str(tmp_path / "d"),
        splits=SplitConfig(train_sets=("one/*",), test_sets=("two/*",), val_fraction=0.2),
    )
    data = StayDataModule(config, task="in_hospital_mortality")
    data.prepare_data()
    data.setup()
    assert data.sizes["test"] == 20 and data.sizes["train"] + data.sizes["val"] == 30
    assert (data.split_ids("test") > IDS).all() and (data.split_ids("train") < IDS).all()
    assert data.static_columns and next(iter(data.train_dataloader()))["mask"].any()


def extract(folder: Path, name: str, stays: dict[int, int]) -> dict[str, Any]:
    """A member: a table of one's own with patients, by stay."""
    vocabulary = folder / "v.yaml"
    vocabulary.write_text("hr: {unit: bpm}")
    lines = {
        "rows": ["stay_id,time,variable,value", *(f"{stay},1,hr,80" for stay in stays)],
        "stays": ["stay_id,patient_id", *(f"{stay},{patient}" for stay, patient in stays.items())],
    }
    for file, text in lines.items():
        (folder / f"{name}-{file}.csv").write_text("\n".join(text))
    raw, table = (str(folder / f"{name}-{file}.csv") for file in ("rows", "stays"))
    return {"source": {"name": "table", "raw": raw, "stays": table, "vocabulary": str(vocabulary)}}


def test_members_of_one_hospital_have_their_patients_in_common(tmp_path: Path) -> None:
    one, two, three = (extract(tmp_path, n, {1: 7, 2: 8}) for n in ("one", "two", "three"))
    vocabulary = {"vocabulary": str(tmp_path / "v.yaml")}
    here = {"hospital": "three"}  # also the name of a member, which is another thing
    together = pool(one=one, two=two | here, three=three, four=extract(tmp_path, "four", {1: 8}) | here)
    store = prepare_dataset(build_source(together | vocabulary), tmp_path / "together")
    k = IDS
    assert store.stay_id.tolist() == [1, 2, k + 1, k + 2, 2 * k + 1, 2 * k + 2, 3 * k + 1]
    assert store.patient_id.tolist() == [7, 8, k + 7, k + 8, 2 * k + 7, 2 * k + 8, k + 8]
    assert store.manifest.counts["patients"] == 6
    sets = store.stays["set"].to_list()
    with pytest.raises(ValueError, match="1 patients are in train_sets and in test_sets"):
        split_stays(store.patient_id, sets, SplitConfig(train_sets=("two/*",), test_sets=("four/*",)))
    apart = build_source(pool(one=one, two=two, three=three, four=together["members"]["four"]) | vocabulary)
    with pytest.raises(ValueError, match=r"not the dataset asked for.*hospital"):
        prepare_dataset(apart, tmp_path / "together")


def test_a_members_options_are_part_of_what_was_asked_for(tmp_path: Path) -> None:
    prepare_dataset(build_source(pool(one=SMALL)), tmp_path / "d")
    with pytest.raises(ValueError, match=r"not the dataset asked for.*members"):
        prepare_dataset(build_source(pool(one=OTHER)), tmp_path / "d")


def test_the_raw_files_of_members_are_watched(tmp_path: Path) -> None:
    member = extract(tmp_path, "one", {1: 7})
    source = build_source(pool(one=member) | {"vocabulary": str(tmp_path / "v.yaml")})
    prepare_dataset(source, tmp_path / "d")
    (tmp_path / "one-rows.csv").write_text("stay_id,time,variable,value\n1,0,hr,180\n")
    with pytest.raises(ValueError, match=r"data\.source\.members\.one\.source\.raw was .*overwrite=true"):
        prepare_dataset(source, tmp_path / "d")


def test_members_share_what_their_parts_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slices.training.data.sources.table.files.ROWS", 1)
    members = {name: extract(tmp_path, name, {1: 7, 2: 8}) for name in ("one", "two")}
    source = build_source(pool(**members) | {"vocabulary": str(tmp_path / "v.yaml")})
    parts = source.parts()
    (tmp_path / "shared").mkdir()
    source.stage(tmp_path / "shared")
    for name in members:
        (tmp_path / f"{name}-rows.csv").write_text("stay_id,time,variable,value\n")
    events = [len(chunk.events) for part in parts for chunk in source.read(part, Tally())]
    assert len(parts) == 4 and sum(events) == 4


def test_another_renaming_under_the_same_name_is_another_dataset(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    member = {"source": SMALL["source"], "renaming": str(own)}
    own.write_text("hr: heart_rate")
    prepare_dataset(build_source(pool(one=member)), tmp_path / "d")
    own.write_text("hr: {name: heart_rate, factor: 2}")
    with pytest.raises(ValueError, match=r"not the dataset asked for.*renaming"):
        prepare_dataset(build_source(pool(one=member)), tmp_path / "d")


@pytest.mark.parametrize(
    ("members", "renaming", "message"),
    [
        ({}, None, "has no members"),
        ({"one": {"source": {"name": "sythetic"}}}, None, "did you mean 'synthetic'"),
        ({"one": {"sorce": {}}}, None, r"members.one: unknown option 'sorce': did you mean 'source'"),
        ({"one": {"source": SMALL["source"]}}, None, "fio2 in fraction, not %.*give a renaming"),
        ({"one": SMALL}, "hart: heart_rate", r"unknown variable 'hart': did you mean"),
        ({"one": SMALL}, "hr: hart_rate", r"hr: unknown variable 'hart_rate': did you mean 'heart_rate'"),
        ({"one": SMALL}, "hr: {name: heart_rate, factr: 2}", "unknown option 'factr': did you mean 'factor'"),
        ({"one": SMALL}, "hr: 7", "7 must be a name"),
        ({"one": SMALL}, "age: heart_rate", "age and heart_rate: one is measured once a stay, one is not"),
        ({"one": SMALL}, "[hr", "cannot be read as YAML"),
    ],
)
def test_a_pool_that_cannot_be_says_why(
    members: dict[str, Any], renaming: str | None, message: str, tmp_path: Path
) -> None:
    if renaming is not None:
        (tmp_path / "own.yaml").write_text(renaming)
        own = str(tmp_path / "own.yaml")
        members = {name: {**member, "renaming": own} for name, member in members.items()}
    with pytest.raises((ValueError, TypeError), match=message):
        prepare_dataset(build_source(pool(**members)), tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_a_task_has_to_be_the_same_everywhere(tmp_path: Path) -> None:
    physionet = {"source": {"name": "physionet2012", "raw": str(tmp_path)}, "renaming": "physionet2012"}
    with pytest.raises(ValueError, match=r"task '\w+' is not the same in the members one .* and two"):
        _ = build_source(pool(one=SMALL, two=physionet)).tasks
