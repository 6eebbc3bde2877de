"""From a source to a dataset on disk: cleaned, sorted, whole or absent."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import uuid
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from slices.training.data.cleaning import clean_events, row_of
from slices.training.data.labels import check_labels
from slices.training.data.schema import EVENT_SCHEMA, LABEL_SCHEMA, STAY_SCHEMA, Chunk, Tally
from slices.training.data.sources.base import Source
from slices.training.data.store import ARRAYS, MANIFEST, TABLES, DatasetError, Manifest, StayStore

log = logging.getLogger(__name__)


def prepare_dataset(source: Source, directory: str | Path, *, overwrite: bool = False) -> StayStore:
    """The dataset of a source: opened where it is there, else made.

    It is written beside its place and moved there at the end, so that a dataset is whole or absent,
    whatever happens on the way; of two processes that prepare it at once the first one's stands.

    Raises ``DatasetError`` where the directory holds something else, or a dataset of other options,
    and what the source raises for raw data it cannot read.
    """
    directory = Path(directory)
    if directory.exists() and not overwrite:
        return open_dataset(source, directory)
    if directory.exists():
        _check_ours(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = directory.parent / f".{directory.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
    temporary.mkdir()
    try:
        manifest = _write(source, temporary)
        _move(temporary, directory, overwrite)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    log.info("prepared %s: %s", directory, ", ".join(f"{n} {kind}" for kind, n in manifest.counts.items()))
    return open_dataset(source, directory)


def open_dataset(source: Source, directory: str | Path) -> StayStore:
    """The prepared dataset, if it is the one this source would give; else ``DatasetError``."""
    store = StayStore(directory)
    recorded, asked = store.manifest.source, _describe(source)
    if recorded == asked:
        return store
    differences = [
        f"{key}: prepared with {_show(old, key)}, asked for {_show(new, key)}"
        for old, new in ((_flat(recorded), _flat(asked)),)
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    raise DatasetError(
        f"{store.directory} is not the dataset asked for ({'; '.join(differences)}): "
        "prepare it again with overwrite=true, or name another data.dataset_dir"
    )


def _describe(source: Source) -> dict[str, Any]:
    return {"name": source.name, "version": source.version, "options": source.options()}


def _flat(description: dict[str, Any]) -> dict[str, Any]:
    return {key: description.get(key) for key in ("name", "version")} | dict(description.get("options", {}))


def _show(values: dict[str, Any], key: str) -> str:
    return f"{key}={values[key]!r}" if key in values else f"no {key}"


def _check_ours(directory: Path) -> None:
    """Overwriting deletes: refuse a directory that holds anything a dataset does not."""
    foreign = sorted({path.name for path in directory.iterdir()} - {*ARRAYS, *TABLES, MANIFEST})
    if foreign:
        raise DatasetError(
            f"{directory} also holds {', '.join(foreign[:5])}, which no dataset has: not overwritten. "
            "Remove it yourself, or name another data.dataset_dir"
        )


def _move(temporary: Path, directory: Path, overwrite: bool) -> None:
    """Into place by renaming. Where another process was faster, its dataset stands."""
    if overwrite:
        old = temporary.with_suffix(".old")
        with contextlib.suppress(FileNotFoundError):
            os.rename(directory, old)
            shutil.rmtree(old)
    try:
        os.rename(temporary, directory)
    except OSError:
        if not (directory / MANIFEST).is_file():
            raise
        log.info("%s was prepared by another process meanwhile", directory)


def _write(source: Source, directory: Path) -> Manifest:
    tally = Tally()
    stays, events, labels = _tables(source, tally)
    check_labels(labels, source.task_infos())
    row = events["row"].to_numpy()
    columns = {
        "offsets.npy": np.searchsorted(row, np.arange(len(stays) + 1)),
        "time.npy": events["time"].to_numpy(),
        "variable.npy": events["variable"].to_numpy(),
        "value.npy": events["value"].to_numpy(),
    }
    for name, array in columns.items():
        np.save(directory / name, array.astype(ARRAYS[name]))
    stays.write_parquet(directory / "stays.parquet")
    labels.write_parquet(directory / "labels.parquet")
    files = {name: _file_record(directory / name) for name in (*ARRAYS, *TABLES)}
    manifest = Manifest(
        source=_describe(source),
        variables=source.variables,
        tasks=source.task_infos(),
        counts={
            "stays": len(stays),
            "patients": stays["patient_id"].n_unique(),
            "events": len(events),
            "labels": len(labels),
        },
        drops=tally.rules,
        files=files,
        fingerprint=_fingerprint(source, files, stays, labels),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={"slices-training": version("slices-training"), "polars": version("polars")},
    )
    (directory / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _tables(source: Source, tally: Tally) -> Chunk:
    """All stays of a source, their clean events in the order of the stays and of time, and labels."""
    chunks = [_clean(chunk, source, tally) for chunk in source.read(tally)]
    if not chunks:
        raise ValueError(f"the source {source.name!r} holds no stay")
    stays, events, labels = (pl.concat(tables) for tables in zip(*chunks, strict=True))
    _refuse_repeated(stays, source)
    labels = labels.sort("task", "stay_id", "prediction_time", "column")
    events = events.with_columns(row=row_of(stays)).sort("row", "time", maintain_order=True)
    return Chunk(stays, events, labels)


def _refuse_repeated(stays: pl.DataFrame, source: Source) -> None:
    repeated = stays.filter(pl.col("stay_id").is_duplicated())["stay_id"]
    if len(repeated):
        raise ValueError(f"the source {source.name!r} gives stay {repeated[0]} more than once")


def _clean(chunk: Chunk, source: Source, tally: Tally) -> Chunk:
    stays = chunk.stays.select(STAY_SCHEMA.keys()).cast(STAY_SCHEMA)
    _refuse_repeated(stays, source)
    events = chunk.events.select(EVENT_SCHEMA.keys()).cast(EVENT_SCHEMA)
    labels = chunk.labels.select(LABEL_SCHEMA.keys()).cast(LABEL_SCHEMA)
    events = clean_events(events, stays, source.variables, tally)
    stray = labels.filter(row_of(stays).is_null())
    if len(stray):
        raise ValueError(
            f"the source {source.name!r} labels stay {stray['stay_id'][0]}, which it does not have"
        )
    return Chunk(stays, events, labels)


def _file_record(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _fingerprint(source: Source, files: dict[str, Any], stays: pl.DataFrame, labels: pl.DataFrame) -> str:
    """Equal for equal content: parquet bytes vary with the writer's version, CSV text does not."""
    digest = hashlib.sha256(repr((source.variables, source.tasks)).encode())
    for name in ARRAYS:
        digest.update(files[name]["sha256"].encode())
    for table in (stays, labels):
        digest.update(table.write_csv().encode())
    return digest.hexdigest()[:16]
