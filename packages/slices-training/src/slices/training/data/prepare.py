"""From a source to a dataset on disk: cleaned, sorted, whole or absent.

Parts of the source are written side by side into a folder beside the dataset's place, by several processes
if asked; a preparation that is interrupted goes on with the parts that are missing. They are then put
together, in the source's order, and moved into place.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from filelock import FileLock, Timeout

from slices.training.data.definitions import check_definitions
from slices.training.data.identity import describe, refuse_other
from slices.training.data.losses import warn_of_losses
from slices.training.data.parts import DONE, WrittenPart, refuse_repeated
from slices.training.data.raw import contents_of
from slices.training.data.schema import Tally
from slices.training.data.sources.base import Source
from slices.training.data.store import ARRAYS, MANIFEST, TABLES, DatasetError, Manifest, StayStore
from slices.training.data.work import written_parts

log = logging.getLogger(__name__)


def prepare_dataset(
    source: Source, directory: str | Path, *, overwrite: bool = False, jobs: int = 1
) -> StayStore:
    """The dataset of a source: opened where it is there, else made.

    It is made beside its place and moved there at the end, so that a dataset is whole or absent, whatever
    happens on the way. A second process that prepares it at the same time waits for the first.

    Args:
        source: where stays come from.
        directory: the dataset's place.
        overwrite: make it again where it is there already.
        jobs: processes that read parts of the source at a time; one reads them in this process.

    Raises ``DatasetError`` where the directory holds something else, or a dataset of other options,
    and what the source raises for raw data it cannot read.
    """
    directory = Path(directory)
    if directory.exists() and not overwrite:
        return open_dataset(source, directory)
    if directory.is_file():
        raise DatasetError(f"{directory} is a file: not overwritten. Name another data.dataset_dir")
    if directory.exists():
        _check_ours(directory)
    with _alone(directory):
        if directory.exists() and not overwrite:
            log.info("%s was prepared by another process meanwhile", directory)
        else:
            manifest = _prepare(source, directory, jobs)
            counts = ", ".join(f"{n} {kind}" for kind, n in manifest.counts.items())
            log.info("prepared %s: %s", directory, counts)
    return open_dataset(source, directory)


def open_dataset(source: Source, directory: str | Path) -> StayStore:
    """The prepared dataset, if it is the one this source would give; else ``DatasetError``."""
    store = StayStore(directory)
    refuse_other(source, store.manifest, store.directory)
    return store


def _check_ours(directory: Path) -> None:
    """Overwriting deletes: refuse a directory that holds anything a dataset does not."""
    foreign = sorted({path.name for path in directory.iterdir()} - {*ARRAYS, *TABLES, MANIFEST})
    if foreign:
        raise DatasetError(
            f"{directory} also holds {', '.join(foreign[:5])}, which no dataset has: not overwritten. "
            "Move it elsewhere, or name another data.dataset_dir"
        )


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One process at a time; the lock goes when its holder does, however it ends."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory.parent / f".{directory.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("another process is preparing %s: waiting for it", directory)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _prepare(source: Source, directory: Path, jobs: int) -> Manifest:
    check_definitions(source.definitions, source.variables, source.outcomes, source.cut)
    source.task_infos()  # two tasks of one name are refused before any work
    parts = list(source.parts())
    contents = contents_of(source.raw_files())  # before they are read: what changes meanwhile is noticed
    workshop = directory.parent / f".{directory.name}.parts"
    _take_up(workshop, source)
    try:
        written = written_parts(source, parts, workshop, jobs)
    except BaseException:
        if not list(workshop.glob(f"*/{DONE}")):  # nothing to go on with
            shutil.rmtree(workshop)
        raise
    whole = workshop / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    try:
        manifest = _assemble(source, written, contents, whole)
    except ValueError:  # the parts are whole, yet no dataset: to be read again
        shutil.rmtree(workshop)
        raise
    if directory.exists():
        os.rename(directory, workshop / "replaced")
    os.rename(whole, directory)
    shutil.rmtree(workshop)
    return manifest


def _take_up(workshop: Path, source: Source) -> None:
    """The folder of an interrupted preparation of the same source, or an empty one."""
    recorded, asked = workshop / "source.json", json.dumps(describe(source), sort_keys=True)
    if not (recorded.is_file() and recorded.read_text(encoding="utf-8") == asked):
        shutil.rmtree(workshop, ignore_errors=True)
        workshop.mkdir(parents=True)
        recorded.write_text(asked, encoding="utf-8")


def _assemble(
    source: Source, parts: Sequence[WrittenPart], contents: dict[str, dict[str, int]], directory: Path
) -> Manifest:
    """The arrays and tables of all parts one behind the other, and the manifest. Raises ``ValueError``."""
    stays = pl.concat([part.stays for part in parts])
    if stays.is_empty():
        read = ", ".join(f"{name}={place}" for name, place in source.places().items()) or "its options"
        raise ValueError(f"the source {source.name!r} holds no stay: look at {read}")
    refuse_repeated(stays, source)
    drops = _added([part.drops for part in parts])
    sizes = np.concatenate([np.fromfile(part.stream("offsets.npy"), ARRAYS["offsets.npy"]) for part in parts])
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(ARRAYS["offsets.npy"])
    np.save(directory / "offsets.npy", offsets)
    for name in ("time.npy", "variable.npy", "value.npy"):
        _concatenate([part.stream(name) for part in parts], directory / name, int(offsets[-1]))
    stays.write_parquet(directory / "stays.parquet")
    tables = [part.folder / "labels.parquet" for part in parts]
    pl.scan_parquet(tables).sink_parquet(directory / "labels.parquet", maintain_order=True)
    labelled = set(pl.scan_parquet(tables).select(pl.col("task").unique()).collect()["task"])
    warn_of_losses(int(offsets[-1]), drops, sorted(source.task_infos().keys() - labelled))
    files = {name: _file_record(directory / name) for name in (*ARRAYS, *TABLES)}
    manifest = Manifest(
        source=describe(source),
        variables=source.variables,
        tasks=source.task_infos(),
        counts={
            "stays": len(stays),
            "patients": stays["patient_id"].n_unique(),
            "events": int(offsets[-1]),
            "labels": sum(len(part.labels) for part in parts),
        },
        drops=drops,
        files=files,
        fingerprint=_fingerprint(source, files, parts),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={"slices-training": version("slices-training"), "polars": version("polars")},
        raw=source.places(),
        contents=contents,
    )
    (directory / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _concatenate(streams: Sequence[Path], path: Path, length: int) -> None:
    """Raw data of one type as one ``.npy`` file, never whole in memory."""
    dtype: npt.DTypeLike = ARRAYS[path.name]
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header | {"shape": (length,)})
        for stream in streams:
            with stream.open("rb") as data:
                shutil.copyfileobj(data, file, 1 << 20)


def _added(drops: Sequence[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The counts of all parts, rule by rule."""
    tally = Tally()
    for rules in drops:
        for rule, entry in rules.items():
            tally.add(rule, entry["description"], entry["by_set"])
    return tally.rules


def _file_record(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _fingerprint(source: Source, files: dict[str, Any], parts: Sequence[WrittenPart]) -> str:
    """Equal for equal content: parquet bytes vary with the writer's version, CSV text does not."""
    digest = hashlib.sha256(repr((source.variables, source.tasks)).encode())
    for name in ARRAYS:
        digest.update(files[name]["sha256"].encode())
    for table in ("stays", "labels"):
        for part in parts:
            _hash_rows(getattr(part, table), digest)
    return digest.hexdigest()[:16]


def _hash_rows(table: pl.DataFrame, digest: Any) -> None:
    for rows in table.iter_slices(1_000_000):
        digest.update(rows.write_csv(include_header=False).encode())
