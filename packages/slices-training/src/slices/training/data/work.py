"""The parts of a source, written side by side by several processes, those that are there left as they are."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from slices.training.data.parts import Stamp, WrittenPart, find_part, stamp_of, write_part
from slices.training.data.sources.base import Part, Source
from slices.training.data.store import DatasetError
from slices.training.workers import workers

log = logging.getLogger(__name__)


class Job(NamedTuple):
    """A part to be written: the stamp of its files, and where to."""

    part: Part
    stamp: Stamp
    folder: Path


def written_parts(source: Source, parts: Sequence[Part], workshop: Path, jobs: int) -> list[WrittenPart]:
    """Every part, in order: those of an earlier attempt as they are, the others written now.

    ``jobs`` processes do so at a time; one is this process. Raises what the source raises, and
    ``DatasetError`` where a file changed after it was read: all parts are of one state of the files.
    """
    folders = {part: workshop / f"part-{i:05d}" for i, part in enumerate(parts)}
    stamps = {part: stamp_of(part) for part in parts}
    done = {part: found for part in parts if (found := find_part(stamps[part], folders[part]))}
    if done:
        log.info("going on with an interrupted preparation: %d of %d parts are there", len(done), len(parts))
    missing = [Job(part, stamps[part], folders[part]) for part in parts if part not in done]
    if missing:
        _stage(source, workshop / "shared")
    for part, written in _write_all(source, missing, jobs):
        done[part] = written
        if len(parts) > 1:
            log.info("part %d/%d read: %s", len(done), len(parts), part.name)
    if changed := [part.name for part in parts if stamp_of(part) != stamps[part]]:
        raise DatasetError(
            f"raw files of {source.name!r} changed while they were read (part {changed[0]}): prepare it "
            "again; parts whose files did not change are kept"
        )
    return [done[part] for part in parts]


def _stage(source: Source, shared: Path) -> None:
    """Have the source put there what its parts share: anew, since the files may have changed."""
    shutil.rmtree(shared, ignore_errors=True)
    shared.mkdir()
    source.stage(shared)


@contextmanager
def _naming(job: Job, work: Sequence[Job]) -> Iterator[None]:
    """Note on an error in which part it is, where there are several."""
    try:
        yield
    except Exception as error:
        if len(work) > 1:
            error.add_note(f"(in part {job.part.name} of the source)")
        raise


def _write_all(source: Source, work: Sequence[Job], jobs: int) -> Iterator[tuple[Part, WrittenPart]]:
    if jobs <= 1 or len(work) <= 1:
        for job in work:
            with _naming(job, work):
                written = write_part(source, *job)
            yield job.part, written
        return
    with workers(min(jobs, len(work))) as pool:
        running = {pool.submit(write_part, source, *job): job for job in work}
        for future in as_completed(running):
            with _naming(running[future], work):
                written = future.result()
            yield running[future].part, written
