from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from slices.encoders import archives
from slices.training import checkpoint_io
from slices.training.checkpoint_io import (
    BEFORE,
    LAST,
    AtomicCheckpointIO,
    newest_whole,
    read_checkpoint,
)
from slices.training.errors import FailedRun


def checkpoint(step: int) -> dict[str, Any]:
    state = OrderedDict(weight=torch.full((3,), step))
    return {"state_dict": state, "optimizer_states": [], "loops": {"step": step}}


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A folder with the checkpoints of steps 1 and 2."""
    for step in (1, 2):
        AtomicCheckpointIO().save_checkpoint(checkpoint(step), tmp_path / LAST)
    return tmp_path


def step_of(path: Path) -> int:
    return int(read_checkpoint(path)["loops"]["step"])


def test_one_of_many_tensors_can_be_read_however_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MOST_BYTES", 20_000)
    names = [f"objective.encoder.layers.{i}.attention.projections.weight" for i in range(300)]
    weights = {name: nn.Parameter(torch.ones(1)) for name in names}
    optimizer = torch.optim.AdamW(weights.values())
    for weight in weights.values():
        weight.grad = torch.ones(1)
    optimizer.step()
    state = OrderedDict((name, weight.data) for name, weight in weights.items())
    held = {"state_dict": state, "optimizer_states": [optimizer.state_dict()], "loops": {}}
    AtomicCheckpointIO().save_checkpoint(held, tmp_path / LAST)
    assert len(read_checkpoint(tmp_path / LAST)["state_dict"]) == 300


def test_the_one_before_is_kept(two: Path) -> None:
    assert (step_of(two / LAST), step_of(two / BEFORE)) == (2, 1)
    assert newest_whole(two) == two / LAST
    assert {path.name for path in two.iterdir()} == {LAST, BEFORE}


def test_there_is_no_moment_without_one(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []

    def replace(path: Path, target: Path) -> None:
        found.append(step_of(two / LAST))
        os.replace(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    AtomicCheckpointIO().save_checkpoint(checkpoint(3), two / LAST)
    assert found == [2] and (step_of(two / LAST), step_of(two / BEFORE)) == (3, 2)


def test_a_file_system_without_links_will_do(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise OSError("Operation not supported")

    monkeypatch.setattr(os, "link", refused)
    AtomicCheckpointIO().save_checkpoint(checkpoint(3), two / LAST)
    assert (step_of(two / LAST), step_of(two / BEFORE)) == (3, 2)


@pytest.mark.parametrize("left", [{LAST}, {BEFORE}])
def test_one_alone_will_do(left: set[str], two: Path) -> None:
    for name in {LAST, BEFORE} - left:
        (two / name).unlink()
    assert {newest_whole(two).name} == left


@pytest.mark.parametrize("flip", [True, False], ids=["flipped", "cut"])
def test_damage_at_any_offset_is_seen_or_harmless(flip: bool, two: Path) -> None:
    last = two / LAST
    whole, expected = last.read_bytes(), read_checkpoint(last)["state_dict"]["weight"]
    offsets, n_seen = range(0, len(whole), 3), 0
    for offset in offsets:
        cut = bytes([whole[offset] ^ 0xFF]) + whole[offset + 1 :] if flip else b""
        last.write_bytes(whole[:offset] + cut)
        try:
            found = read_checkpoint(last)
        except ValueError as error:
            assert str(last) in str(error)
            n_seen += 1
            continue
        assert torch.equal(found["state_dict"]["weight"], expected) and found["loops"] == {"step": 2}
    assert n_seen > 0.9 * len(offsets)  # harmless: in the mark of the checksum; cut: there or after it


def test_a_damaged_one_is_named_and_set_aside(two: Path, caplog: pytest.LogCaptureFixture) -> None:
    (two / LAST).write_bytes((two / LAST).read_bytes()[:500])
    with caplog.at_level(logging.WARNING):
        assert newest_whole(two) == two / BEFORE
    assert str(two / LAST) in caplog.text and str(two / BEFORE) in caplog.text
    AtomicCheckpointIO().save_checkpoint(checkpoint(3), two / LAST)
    assert (step_of(two / LAST), step_of(two / BEFORE)) == (3, 1)  # and not the damaged one


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), MemoryError()])
def test_one_that_cannot_be_read_now_is_named_and_left(
    error: Exception, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path) -> None:
        raise error

    monkeypatch.setattr(checkpoint_io, "read_archive", read)
    with pytest.raises(type(error), match=str(two / LAST)):
        newest_whole(two)
    assert {path.name for path in two.iterdir()} == {LAST, BEFORE}


def test_states_of_a_sharded_model_are_a_plain_dict(two: Path) -> None:
    AtomicCheckpointIO().save_checkpoint(
        checkpoint(3) | {"state_dict": {"weight": torch.zeros(3)}}, two / LAST
    )
    assert newest_whole(two) == two / LAST


def test_one_that_is_larger_than_the_memory_is_named_and_left(two: Path) -> None:
    os.truncate(two / LAST, 1 << 42)
    with pytest.raises(MemoryError, match=f"{LAST}: it is larger than the memory"):
        newest_whole(two)
    assert {path.name for path in two.iterdir()} == {LAST, BEFORE}


def test_where_none_is_whole_both_are_named(two: Path) -> None:
    for name in (LAST, BEFORE):
        (two / name).write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{LAST} is damaged.*{BEFORE} is damaged.*start a new run"):
        newest_whole(two)


LARGER = """
import resource, torch
from slices.training.checkpoint_io import AtomicCheckpointIO
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
AtomicCheckpointIO().save_checkpoint({"state_dict": torch.zeros(10_000)}, "last.ckpt")
"""


@pytest.mark.slow
def test_what_cannot_be_written_leaves_those_that_are_there(two: Path) -> None:
    """A file may not grow any more, as on a full disk."""
    done = subprocess.run([sys.executable, "-c", LARGER], cwd=two, capture_output=True, text=True)
    assert "NotWritten: cannot write last.ckpt" in done.stderr and "kept of before: last.ckpt" in done.stderr
    assert (step_of(two / LAST), step_of(two / BEFORE)) == (2, 1)
    assert {path.name for path in two.iterdir()} == {LAST, BEFORE}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FailedRun, match=r"file.*kept of before: nothing"):
        AtomicCheckpointIO().save_checkpoint(checkpoint(1), tmp_path / "file" / LAST)
