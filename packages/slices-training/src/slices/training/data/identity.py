"""Whether a dataset on disk is the one that a source would give."""

from __future__ import annotations

import dataclasses
import glob
import json
import logging
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from slices.training.data.raw import contents_of
from slices.training.data.sources.base import Source
from slices.training.data.store import REMEDY, DatasetError, Manifest

SECOND = 10**9  # nanoseconds: some file systems keep no smaller part of a time

log = logging.getLogger(__name__)


def refuse_other(source: Source, manifest: Manifest, directory: Path) -> None:
    """Raise ``DatasetError`` unless the dataset is the one this source would give, naming what differs.

    That is its options, the places of its raw data, and what lies there (its number and sizes of files).
    """
    recorded, asked = manifest.source, describe(source)
    if recorded == asked:
        _refuse_other_place(source.places(), manifest, directory)
        _refuse_changed(source.raw_files(), manifest, directory)
        return
    differences = [
        f"{key}: prepared with {_show(old, key)}, asked for {_show(new, key)}"
        for old, new in ((_flat(recorded), _flat(asked)),)
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    raise DatasetError(f"{directory} is not the dataset asked for ({'; '.join(differences)}): {REMEDY}")


def describe(source: Source) -> dict[str, Any]:
    """What makes its dataset: name, version and options, the definitions of tasks among them."""
    options = source.options()
    if source.definitions:
        defined = {d.name: {"kind": d.kind} | dataclasses.asdict(d) for d in source.definitions}
        options = options | {"definitions": json.loads(json.dumps(defined))}
    return {"name": source.name, "version": source.version, "options": options}


def _flat(description: dict[str, Any]) -> dict[str, Any]:
    return {key: description.get(key) for key in ("name", "version")} | dict(description.get("options", {}))


def _show(values: dict[str, Any], key: str) -> str:
    return f"{key}={values[key]!r}" if key in values else f"no {key}"


def _refuse_other_place(places: Mapping[str, str], manifest: Manifest, directory: Path) -> None:
    """Raw data that was moved is the same; raw data at two places that both are there is not.

    Raises ``DatasetError`` naming both places, or the option that names one and did not, or the other way
    round.
    """
    for name in sorted(places.keys() | manifest.raw.keys()) if manifest.contents else ():
        if (name in places) != (name in manifest.raw):
            then, now = manifest.raw.get(name, "none"), places.get(name, "none")
            raise DatasetError(f"{directory} was prepared with {name}={then}, asked for is {now}: {REMEDY}")
    for name, now in places.items():
        then = manifest.raw.get(name, now)
        if then != now and _lies(then) and _lies(now):
            raise DatasetError(f"{directory} was prepared from {then}, asked for is {name}={now}: {REMEDY}")


def _lies(place: str) -> bool:
    """Is there a file or folder at this place, or for a pattern at least one?"""
    return Path(place).exists() or next(glob.iglob(place), None) is not None


def _refuse_changed(files: Mapping[str, Iterable[Path]], manifest: Manifest, directory: Path) -> None:
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
