"""Sets of the challenge, packed and unpacked, and those that cannot be read."""

from __future__ import annotations

import errno
import gzip
import io
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from physionet_raw import OUTCOMES, labels, make_archive, prepared, stay_text, write_folder
from slices.training.data import (
    DatasetError,
    build_source,
    prepare_dataset,
)
from stored import counts


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
    assert counts(stores[2])["ignored_file"] == 1


def test_a_stay_in_two_sets_counts_once(tmp_path: Path) -> None:
    outcomes = OUTCOMES + "1,6,1,5,-1,1\n"
    write_folder(tmp_path / "raw", "a", {1: stay_text(1)}, outcomes)
    write_folder(tmp_path / "raw", "b", {1: stay_text(1), 2: stay_text(2)}, outcomes + "2,6,1,5,-1,0\n")
    store = prepared(tmp_path / "raw")
    assert store.stay_id.tolist() == [1, 2] and store.stays["set"].to_list() == ["a", "b"]
    assert counts(store)["repeated_stay"] == 1
    assert labels(store, "in_hospital_mortality") == {1: 1.0, 2: 0.0}


@pytest.mark.parametrize("outcomes", [None, OUTCOMES + "1,6,1,5,-1,0\n"])
def test_a_set_of_nothing_but_earlier_stays_adds_none(outcomes: str | None, tmp_path: Path) -> None:
    for name in "ab":
        write_folder(tmp_path / "raw", name, {1: stay_text(1)}, outcomes)
    store = prepared(tmp_path / "raw")
    assert store.stays["set"].to_list() == ["a"] and counts(store)["repeated_stay"] == 1


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


def test_sets_that_are_null_are_refused_with_what_stands_for_none() -> None:
    with pytest.raises(TypeError, match=r"sets: expected a list of str \(none of them: \[\]\), got None"):
        build_source({"name": "physionet2012", "raw": "anywhere", "sets": None})


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda raw: None, FileNotFoundError, "has none of set-a, set-b, set-c: set data.source.raw"),
        (lambda raw: (raw / "set-a").mkdir(), ValueError, "set-a holds no file like 132539.txt"),
        (lambda raw: (raw / "set-a.zip").write_text("no"), ValueError, "set-a.zip is truncated or damaged"),
        (
            lambda raw: write_folder(raw, "a", {1: stay_text(1)}, ""),
            ValueError,
            "Outcomes-a.txt is empty: fetch it again",
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
