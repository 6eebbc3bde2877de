"""What lies where raw data is read from, so that a dataset is known to be of it and of no other."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from slices.training.data.store import ARRAYS, REMEDY, DatasetError, Manifest

SECOND = 10**9  # nanoseconds: some file systems keep no smaller part of a time

log = logging.getLogger(__name__)


def files_under(place: Path) -> list[Path]:
    """The file at a place, or all in a folder, sorted; hidden ones and prepared datasets are no raw data."""
    if place.is_file():
        return [place]
    found: list[Path] = []
    for folder, folders, names in os.walk(place):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if not ARRAYS.keys() <= set(names):
            found += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(found)


def contents_of(files: Mapping[str, Iterable[Path]]) -> dict[str, dict[str, int]]:
    """Of each place its number of files, their bytes, and when the newest was written (ns since 1970).

    That is cheap, and copying a file keeps it, but for the time. A place where there is no file is left out.
    """
    found = {}
    for place, paths in files.items():
        if status := [path.stat() for path in paths if path.is_file()]:
            found[place] = {
                "files": len(status),
                "bytes": sum(of.st_size for of in status),
                "newest": max(of.st_mtime_ns for of in status),
            }
    return found


def refuse_other_place(places: Mapping[str, str], manifest: Manifest, directory: Path) -> None:
    """Raw data that was moved is the same; raw data at two places that both are there is not.

    Raises ``DatasetError`` naming both places, or the option that names one and did not, or the other way
    round.
    """
    for name in places.keys() | manifest.raw.keys() if manifest.contents else ():
        if (name in places) != (name in manifest.raw):
            then, now = manifest.raw.get(name, "none"), places.get(name, "none")
            raise DatasetError(f"{directory} was prepared with {name}={then}, asked for is {now}: {REMEDY}")
    for name, now in places.items():
        then = manifest.raw.get(name, now)
        if then != now and Path(then).exists() and Path(now).exists():
            raise DatasetError(f"{directory} was prepared from {then}, asked for is {name}={now}: {REMEDY}")


def refuse_changed(files: Mapping[str, Iterable[Path]], manifest: Manifest, directory: Path) -> None:
    """Raise ``DatasetError`` where other files lie at a place than were read; none at all are no harm.

    Files of the same sizes that were written at another time may be copies: of those it is only said.
    """
    now = contents_of(files)
    for place, then in manifest.contents.items():
        if place not in now:
            continue
        if any(now[place][what] != then[what] for what in ("files", "bytes")):
            raise DatasetError(
                f"the raw data of {directory} has changed: data.source.{place} was {_said(then)}, "
                f"is {_said(now[place])}: {REMEDY}"
            )
        if abs(now[place]["newest"] - then["newest"]) >= SECOND:
            _warn_once(
                f"the raw data of {directory} (data.source.{place}) was written at another time than what it "
                f"was prepared from, with equal sizes: if it is more than a copy, {REMEDY}"
            )


def _said(contents: Mapping[str, int]) -> str:
    files = contents["files"]
    return f"{files:,} file{'s' if files != 1 else ''} of {contents['bytes']:,} bytes"


@cache
def _warn_once(message: str) -> None:
    log.warning(message)
