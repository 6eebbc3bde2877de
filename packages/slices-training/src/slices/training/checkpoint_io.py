"""Checkpoints that are whole or absent, and the newest whole one of a run."""

from __future__ import annotations

import errno
import hashlib
import logging
import mmap
import os
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from slices.encoders.archives import read_archive
from slices.encoders.files import brief
from slices.training.errors import FailedRun

log = logging.getLogger(__name__)
LAST, BEFORE = "last.ckpt", "previous.ckpt"
KINDS = {"epoch": int, "global_step": int, "state_dict": OrderedDict, "loops": dict, "optimizer_states": list}
SEAL = b"\nslices-sha256\n"
IN_A_FILE = (None, errno.EINVAL)  # errors that come of what is in it, as a place before its start
PARTS = ("state_dict", "optimizer_states", "loops")  # of what a run goes on from


class NotWritten(FailedRun):
    """A checkpoint that cannot be written; its rank knows it alone."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes to disk, then renames: a kill leaves the old file or the new one.

    Each ends with a checksum of what comes before it, which is nothing to those who read the checkpoint. Of
    ``last.ckpt`` the one before is kept, as ``previous.ckpt``.

    Raises:
        NotWritten: a checkpoint cannot be written; those that are there are left as they were.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        target = Path(path)
        partial = target.with_name(f".{target.name}.partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("w+b") as file:
                torch.save(checkpoint, file)
                file.seek(0)
                file.write(SEAL + hashlib.file_digest(file, "sha256").digest())
                file.flush()
                os.fsync(file.fileno())
            if target.name == LAST and target.exists():
                _keep(target, target.with_name(BEFORE))
            partial.replace(target)
        except (OSError, RuntimeError) as error:  # the latter of torch, where the disk is full
            with suppress(OSError):
                partial.unlink()
            kept = " and ".join(str(file) for file in candidates(target.parent) if file.exists()) or "nothing"
            raise NotWritten(f"cannot write {target} ({error}); kept of before: {kept}") from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """Raises ``ValueError`` for a damaged or foreign file, naming it."""
        read_checkpoint(path)
        return super().load_checkpoint(path, map_location, weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        """A file, that is: a checkpoint says itself which ones it replaces, and Lightning removes folders."""
        if Path(path).suffix == ".ckpt" and Path(path).is_file():
            super().remove_checkpoint(path)


def _keep(path: Path, other: Path) -> None:
    """Under another name too, so that there is no moment without the first, but where files have but one."""
    other.unlink(missing_ok=True)
    try:
        os.link(path, other)
    except OSError:
        path.replace(other)


def candidates(folder: Path) -> list[Path]:
    """What a run with this folder of checkpoints may go on from, the newest first."""
    return [folder / LAST, folder / BEFORE]


def newest_whole(folder: Path) -> Path:
    """The newest checkpoint in a run's folder of them that is whole; says so where that is not the last one.

    Raises:
        ValueError: there is none.
        OSError, MemoryError: one cannot be read now; all are left as they are.
    """
    wrong = []
    for path in candidates(folder):
        try:
            read_checkpoint(path, PARTS)
        except ValueError as error:
            wrong.append(str(error))
            continue
        if wrong:
            log.warning("%s. Going on from the one before, %s", wrong[0], path)
            with suppress(FileNotFoundError):  # another rank may have done it
                _set_aside(folder / LAST)
        return path
    raise ValueError(
        f"cannot resume: {'; '.join(wrong)}. Put another .ckpt of the run in its place, or start a new run"
    )


def _check_seal(path: Path) -> None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = len(content) - len(SEAL) - hashlib.sha256().digest_size
        if content[start : start + len(SEAL)] != SEAL:  # written by something else
            return
        with memoryview(content) as view, view[:start] as sealed:
            digest = hashlib.sha256(sealed).digest()
        if content[start + len(SEAL) :] != digest:
            raise ValueError("its checksum is not that of its content")


def _set_aside(path: Path) -> None:
    """So that it does not become the one before."""
    path.replace(path.with_suffix(".damaged"))


def read_checkpoint(path: str | Path, needed: Sequence[str] = ("state_dict",)) -> dict[str, Any]:
    """A checkpoint of a run, with the checksum that it was written with, its tensors mapped from the file.

    Raises:
        ValueError: it is missing, damaged, or something else; names the file.
        OSError, MemoryError: it cannot be read now, which says nothing of what it holds; name the file.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    try:
        _check_seal(path)
        held: dict[str, Any] = read_archive(path)
        if lacking := set(needed) - held.keys():
            raise ValueError(f"it has no {', '.join(sorted(lacking))}")
        for key in held.keys() & KINDS:
            if not isinstance(held[key], KINDS[key]):
                raise ValueError(f"its {key} is not what Lightning writes")
    except MemoryError as error:
        raise MemoryError(f"to read {path}: {brief(error)}") from error
    except Exception as error:  # of a damaged file, the readers raise whatever they stumble over
        if isinstance(error, OSError) and error.errno not in IN_A_FILE:
            error.filename = str(path)
            raise
        message = f"{path} is damaged or no checkpoint of a run ({type(error).__name__}: {brief(error)})"
        raise ValueError(message) from error
    return held
