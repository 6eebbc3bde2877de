"""A source is prepared part by part: what was done is kept, what changed is done anew."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from slices.training.data import (
    Chunk,
    DatasetError,
    Part,
    Source,
    Tally,
    Variable,
    prepare_dataset,
)
from slices.training.data.schema import EVENT_SCHEMA, LABEL_SCHEMA, STAY_SCHEMA


class InParts(Source):
    """Three parts of one stay each, that tell who reads them; from the second on they can fail."""

    name = "in_parts"
    meanwhile: Callable[[], Any] = staticmethod(lambda: None)
    variables = (Variable(name="hr"),)
    tasks = ()

    def parts(self) -> list[Part]:
        return [Part(name, (f"{self.config.folder}/{name}",)) for name in ("x", "y", "z")]

    def read(self, part: Part, tally: Tally) -> Iterator[Chunk]:
        with open(f"{self.config.folder}/.reads", "a") as reads:
            reads.write(part.name)
        if Path(part.files[0]).read_text() == "broken":
            raise ValueError(f"{part.files[0]} is broken")
        number = "xyz".index(part.name) + 1
        tally.add("noted", "a part that was read", {"a": 1})
        stays = pl.DataFrame([(number, number, "a", 48.0)], STAY_SCHEMA, orient="row")
        if part.name == "z":
            self.meanwhile()
        value = float(Path(part.files[0]).read_text())
        events = pl.DataFrame([(number, 1.0, 0, value)], EVENT_SCHEMA, orient="row")
        yield Chunk(stays, events, LABEL_SCHEMA.to_frame())


@dataclass(kw_only=True)
class InPartsConfig:
    folder: str = field(metadata={"content": False})


@pytest.fixture
def in_parts(tmp_path: Path) -> InParts:
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in "xyz":
        (raw / name).write_text("80")
    return InParts(InPartsConfig(folder=str(raw)))


def test_an_interrupted_preparation_goes_on_with_the_parts_that_are_missing(
    in_parts: InParts, tmp_path: Path, left_behind: Any
) -> None:
    raw = Path(in_parts.config.folder)
    (raw / "z").write_text("broken")
    with pytest.raises(ValueError, match="z is broken"):
        prepare_dataset(in_parts, tmp_path / "d")
    assert not (tmp_path / "d").exists()
    (raw / "y").write_text("81")  # changed since it was read: read again
    (raw / "z").write_text("82")
    store = prepare_dataset(in_parts, tmp_path / "d")
    assert (raw / ".reads").read_text() == "xyz" + "yz"
    assert store.value.tolist() == [80, 81, 82]
    assert store.manifest.drops["noted"]["count"] == 3
    assert sorted(left_behind(tmp_path)) == ["d", "raw"]


def test_raw_data_may_move_but_not_be_other_raw_data(in_parts: InParts, tmp_path: Path) -> None:
    prepare_dataset(in_parts, tmp_path / "d")
    raw = Path(in_parts.config.folder)
    other = InParts(InPartsConfig(folder=str(shutil.copytree(raw, tmp_path / "other"))))
    with pytest.raises(DatasetError, match=r"prepared from .*raw, asked for is folder=.*other.*overwrite"):
        prepare_dataset(other, tmp_path / "d")
    raw.rename(tmp_path / "gone")
    prepare_dataset(other, tmp_path / "d")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: (raw / "y").write_text("180"), "was 3 files of 6 bytes, is 3 files of 7 bytes"),
        (lambda raw: (raw / "w").write_text("80"), "was 3 files of 6 bytes, is 4 files of 8 bytes"),
        (lambda raw: (raw / "x").unlink(), "was 3 files of 6 bytes, is 2 files of 4 bytes"),
    ],
)
def test_raw_data_that_changed_is_refused(
    in_parts: InParts, tmp_path: Path, change: Callable[[Path], Any], message: str
) -> None:
    prepare_dataset(in_parts, tmp_path / "d")
    change(Path(in_parts.config.folder))
    with pytest.raises(DatasetError, match=rf"data\.source\.folder {message}: .*overwrite=true"):
        prepare_dataset(in_parts, tmp_path / "d")


def test_changed_raw_data_is_prepared_again_when_asked(in_parts: InParts, tmp_path: Path) -> None:
    prepare_dataset(in_parts, tmp_path / "d")
    (Path(in_parts.config.folder) / "y").write_text("180")
    prepare_dataset(in_parts, tmp_path / "d", overwrite=True)
    assert prepare_dataset(in_parts, tmp_path / "d").value.tolist() == [80, 180, 80]


def test_copied_raw_data_is_the_same_and_data_that_is_away_no_matter(
    in_parts: InParts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = Path(in_parts.config.folder)
    prepare_dataset(in_parts, tmp_path / "d")
    with caplog.at_level("WARNING"):
        prepare_dataset(in_parts, tmp_path / "d")
        assert not caplog.messages
        os.utime(raw / "y", (1e9, 2e9))
        prepare_dataset(in_parts, tmp_path / "d")
        prepare_dataset(in_parts, tmp_path / "d")
    (message,) = caplog.messages
    assert "written at another time" in message and "overwrite=true" in message
    shutil.rmtree(raw)
    prepare_dataset(in_parts, tmp_path / "d")


def test_datasets_and_hidden_files_beside_raw_files_are_none_of_them(in_parts: InParts) -> None:
    raw = Path(in_parts.config.folder)
    for name in ("here", "there"):
        prepare_dataset(in_parts, raw / name)
    (raw / ".note").write_text("mine")
    assert prepare_dataset(in_parts, raw / "here").directory == raw / "here"


def test_a_file_that_changes_while_others_are_read_is_noticed(in_parts: InParts, tmp_path: Path) -> None:
    raw = Path(in_parts.config.folder)
    in_parts.meanwhile = lambda: (raw / "x").write_text("81.5")
    with pytest.raises(DatasetError, match=r"changed while they were read \(part x\): prepare it again"):
        prepare_dataset(in_parts, tmp_path / "d")
    in_parts.meanwhile = lambda: None
    assert prepare_dataset(in_parts, tmp_path / "d").value.tolist() == [81.5, 80, 80]
    assert (raw / ".reads").read_text() == "xyz" + "x"


def test_what_parts_share_is_made_anew_for_those_that_are_missing(in_parts: InParts, tmp_path: Path) -> None:
    found = []

    def stage(folder: Path) -> None:
        found.append(list(folder.iterdir()))
        (folder / "shared").write_text("of now")

    in_parts.stage = stage  # type: ignore[method-assign]
    (Path(in_parts.config.folder) / "z").write_text("broken")
    with pytest.raises(ValueError, match="z is broken"):
        prepare_dataset(in_parts, tmp_path / "d")
    (Path(in_parts.config.folder) / "z").write_text("82")
    prepare_dataset(in_parts, tmp_path / "d")
    assert found == [[], []]


def test_what_a_killed_worker_left_is_never_taken_for_a_part(in_parts: InParts, tmp_path: Path) -> None:
    (Path(in_parts.config.folder) / "z").write_text("broken")
    with pytest.raises(ValueError, match="z is broken"):
        prepare_dataset(in_parts, tmp_path / "d")
    for name in ("part-00002.77-abc", "part-00002"):  # half written, without the file that ends it
        half = tmp_path / ".d.parts" / name
        half.mkdir()
        (half / "value.bin").write_bytes(b"12345678")
    (Path(in_parts.config.folder) / "z").write_text("82")
    assert prepare_dataset(in_parts, tmp_path / "d").value.tolist() == [80, 80, 82]


def test_parts_of_another_source_are_not_gone_on_with(in_parts: InParts, tmp_path: Path) -> None:
    raw = Path(in_parts.config.folder)
    (raw / "z").write_text("broken")
    with pytest.raises(ValueError, match="z is broken"):
        prepare_dataset(in_parts, tmp_path / "d")
    in_parts.version = 2  # type: ignore[misc]
    (raw / "z").write_text("82")
    prepare_dataset(in_parts, tmp_path / "d")
    assert (raw / ".reads").read_text() == "xyz" + "xyz"
