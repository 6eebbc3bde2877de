"""What lies where raw data is read from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from slices.training.data.store import ARRAYS


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
