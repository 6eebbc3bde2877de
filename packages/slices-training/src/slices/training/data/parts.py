"""One part of a source, cleaned and written to a folder of its own: whole, or to be done again."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import polars as pl

from slices.training.data.cleaning import LONGEST, clean_events, row_of, sift
from slices.training.data.definitions import define_labels
from slices.training.data.labels import check_labels
from slices.training.data.schema import (
    EVENT_SCHEMA,
    LABEL_SCHEMA,
    OUTCOME_SCHEMA,
    STAY_SCHEMA,
    Chunk,
    Tally,
    Variable,
)
from slices.training.data.sources.base import Part, Source
from slices.training.data.store import ARRAYS

DONE = "part.json"  # written last: a folder that has it is whole
STREAMS = {name: name.replace(".npy", ".bin") for name in ARRAYS}


class WrittenPart(NamedTuple):
    """What a folder of a part holds: array data without headers, and tables."""

    folder: Path
    drops: dict[str, dict[str, Any]]

    def stream(self, array: str) -> Path:
        """The raw data of an array; of ``offsets.npy`` the number of events of each stay."""
        return self.folder / STREAMS[array]

    @property
    def stays(self) -> pl.DataFrame:
        return pl.read_parquet(self.folder / "stays.parquet")

    @property
    def labels(self) -> pl.DataFrame:
        return pl.read_parquet(self.folder / "labels.parquet")


Stamp = list[list[Any]]


def stamp_of(part: Part) -> Stamp:
    """Its name, and size and time of change of every file of the part; a folder's are its members'."""
    return [[part.name], *(list(entry) for file in part.files for entry in _entries(Path(file)))]


def find_part(stamp: Stamp, folder: Path) -> WrittenPart | None:
    """The part that was written before, if its files had this stamp."""
    path = folder / DONE
    if not path.is_file():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    return WrittenPart(folder, record["drops"]) if record["stamp"] == stamp else None


def write_part(source: Source, part: Part, stamp: Stamp, folder: Path) -> WrittenPart:
    """Read, clean and write a part, chunk by chunk. Raises what the source raises for data it cannot read.

    It is written under a name of this process's own and renamed when it is whole. ``stamp`` is that of its
    files before anything was read.
    """
    place, folder = folder, folder.with_name(f"{folder.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
    folder.mkdir()
    tally = Tally()
    stays, labels = [STAY_SCHEMA.to_frame()], [LABEL_SCHEMA.to_frame()]
    streams = {name: (folder / stream).open("wb") for name, stream in STREAMS.items()}
    try:
        for chunk in source.read(part, tally):
            clean = _clean(chunk, source, tally)
            _append(clean, streams)
            stays.append(clean.stays)
            labels.append(clean.labels)
    finally:
        for file in streams.values():
            file.close()
    all_stays = pl.concat(stays)
    refuse_repeated(all_stays, source)
    all_stays.write_parquet(folder / "stays.parquet")
    pl.concat(labels).write_parquet(folder / "labels.parquet")
    (folder / DONE).write_text(json.dumps({"stamp": stamp, "drops": tally.rules}), encoding="utf-8")
    shutil.rmtree(place, ignore_errors=True)  # of an earlier state of its files
    os.rename(folder, place)
    return WrittenPart(place, tally.rules)


def refuse_repeated(stays: pl.DataFrame, source: Source) -> None:
    """Raise ``ValueError`` for a stay that is there more than once."""
    repeated = stays.filter(pl.col("stay_id").is_duplicated())["stay_id"]
    if len(repeated):
        raise ValueError(f"the source {source.name!r} gives stay {repeated[0]} more than once")


def _refuse_endless(stays: pl.DataFrame, source: Source) -> None:
    """Raise ``ValueError`` for a stay that is longer than a life."""
    endless = stays.filter(pl.col("length_hours") > LONGEST)
    if len(endless):
        stay, _, _, hours = endless.row(0)
        raise ValueError(
            f"the source {source.name!r}: stay {stay} lasts {hours:g} hours, longer than a life "
            f"({len(endless)} such stays): times are hours since admission, or timestamps; correct them"
        )


def _entries(path: Path) -> Iterator[tuple[str, int, int]]:
    if path.is_dir():
        for member in sorted(path.rglob("*")):
            yield from _entries(member) if member.is_file() else ()
    elif path.is_file():
        status = os.stat(path)
        yield str(path), status.st_size, status.st_mtime_ns
    else:
        yield str(path), -1, -1


def _clean(chunk: Chunk, source: Source, tally: Tally) -> Chunk:
    """What can be used of a chunk: events in the order of stays and of time, labels in that of the tasks."""
    stays = chunk.stays.select(STAY_SCHEMA.keys()).cast(STAY_SCHEMA)
    refuse_repeated(stays, source)
    _refuse_endless(stays, source)
    events = chunk.events.select(EVENT_SCHEMA.keys()).cast(EVENT_SCHEMA)
    labels = chunk.labels.select(LABEL_SCHEMA.keys()).cast(LABEL_SCHEMA)
    events = clean_events(events, stays, source.variables, tally)
    stray = labels.filter(row_of(stays).is_null())
    if len(stray):
        raise ValueError(
            f"the source {source.name!r} labels stay {stray['stay_id'][0]}, which it does not have"
        )
    labels = pl.concat([labels, _defined(source, chunk._replace(stays=stays, events=events), tally)])
    check_labels(labels, source.task_infos())
    return Chunk(
        stays,
        _in_order(events, stays, source.variables),
        labels.sort("task", "stay_id", "prediction_time", "column"),
    )


def _in_order(events: pl.DataFrame, stays: pl.DataFrame, variables: Sequence[Variable]) -> pl.DataFrame:
    """By stay and time, statics at 0 and first of all; with the stay's row."""
    statics = [position for position, variable in enumerate(variables) if variable.static]
    static = pl.col("variable").is_in(statics)
    events = events.with_columns(row=row_of(stays), time=pl.when(static).then(0.0).otherwise("time"))
    return events.sort("row", "time", ~static, maintain_order=True)


def _defined(source: Source, chunk: Chunk, tally: Tally) -> pl.DataFrame:
    """The labels that the definitions make of clean events and of outcomes."""
    if not source.definitions:
        return LABEL_SCHEMA.to_frame()
    columns = pl.Schema({name: OUTCOME_SCHEMA[name] for name in ("stay_id", *source.outcomes)})
    known_after = source.known_after if chunk.known_after is None else chunk.known_after
    outcomes = pl.DataFrame(schema=columns) if chunk.outcomes is None else chunk.outcomes
    events = chunk.events.with_columns(pl.col("time") + known_after)
    outcomes = outcomes.select(columns.names()).cast(columns)
    labels = define_labels(source.definitions, chunk.stays, events, outcomes, source.variables, tally)
    known = source.statics_known_after
    rule = (f"a label asked before the statics are known, {known:g} h", pl.col("prediction_time") < known)
    of_set = chunk.stays["set"].gather(labels.select(row_of(chunk.stays)).to_series())
    return sift(labels.with_columns(set=of_set), {"label_too_early": rule}, tally).drop("set")


def _append(chunk: Chunk, streams: Mapping[str, IO[bytes]]) -> None:
    row = chunk.events["row"].to_numpy()
    columns = {
        "offsets.npy": np.bincount(row, minlength=len(chunk.stays)),
        "time.npy": chunk.events["time"].to_numpy(),
        "variable.npy": chunk.events["variable"].to_numpy(),
        "value.npy": chunk.events["value"].to_numpy(),
    }
    for name, column in columns.items():
        streams[name].write(np.ascontiguousarray(column, dtype=ARRAYS[name]).tobytes())
