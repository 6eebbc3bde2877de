"""A user's own long table: one row a measurement, in parquet or CSV."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from slices.encoders.registry import unknown
from slices.training.data.schema import LABEL_SCHEMA, Chunk, Tally, TaskInfo, Variable
from slices.training.data.sources.base import Part, Source, register_source
from slices.training.data.sources.statics import Static, find_statics, static_events, with_known
from slices.training.data.vocabulary import read_vocabulary, stamped

from .config import TableColumns, TableConfig
from .files import Bucket, Survey, as_parquet, survey, table_files
from .labels import read_labels
from .rows import events_of, read_rows
from .stays import check_stays, read_stays, since_admission, stays_of, with_admission, with_length

__all__ = ["TableColumns", "TableConfig", "TableSource"]

log = logging.getLogger(__name__)


@register_source("table", TableConfig)
class TableSource(Source):
    """Rows of stay, time, variable and value, in any order and number of files.

    Times are hours since admission (or Durations), or timestamps: then the admission is that of the stays
    file, else the stay's first row. A stays file says which stays there are; without one every stay that
    has a row is one. A stay ends after the length in the stays file, else with its last row or label.
    """

    version = 3  # 3: all categories of a static that the vocabulary has, also where the file has some
    config: TableConfig

    def __init__(self, config: TableConfig) -> None:
        super().__init__(config)
        self.copies: dict[Path, Path] = {}

    def options(self) -> dict[str, Any]:
        """Those of the config, the vocabulary by its content."""
        vocabulary = self.config.vocabulary
        return super().options() | {
            "columns": dataclasses.asdict(self.config.columns),
            "vocabulary": None if vocabulary is None else stamped(vocabulary),
        }

    @cached_property
    def tasks(self) -> tuple[TaskInfo, ...]:
        """Those of the config."""
        return self.config.task_infos()

    @cached_property
    def survey(self) -> Survey:
        """The files and the names in them."""
        config = self.config
        return survey(config.raw, (config.stays, config.labels), config.columns)

    @cached_property
    def vocabulary(self) -> Mapping[str, Variable]:
        """The one that is configured, or a plain variable for every name, sorted."""
        if self.config.vocabulary is not None:
            return read_vocabulary(self.config.vocabulary)
        return {name: Variable(name=name) for name in sorted(name for name in self.survey.rows_of if name)}

    @cached_property
    def statics(self) -> tuple[Static, ...]:
        """What the columns of the stays file give."""
        config = self.config
        if config.stays is None:
            return ()
        path = Path(config.stays)
        schema = check_stays(path, config.columns, config.statics)
        known = self.vocabulary if config.vocabulary is not None else {}
        found = find_statics(path, schema, config.statics, known, config.min_category)
        return tuple(with_known(static, known) for static in found)

    @cached_property
    def variables(self) -> tuple[Variable, ...]:  # known once the files are seen
        """Those of the vocabulary, then the statics that it lacks. Raises ``ValueError`` where they clash."""
        known = self.vocabulary
        names = [name for static in self.statics for name in static.names]
        for name in names:
            if name in known and not known[name].static:
                raise ValueError(
                    f"{self.config.stays}: {name!r} is also a variable that is not static: rename the column"
                )
        return (*known.values(), *(Variable(name=name, static=True) for name in names if name not in known))

    def parts(self) -> Sequence[Part]:
        """Buckets of stays, of about ``files.ROWS`` rows each."""
        config, n = self.config, self.survey.n_buckets
        self._compare_names()
        files = (*map(str, self.survey.files), *(path for path in (config.stays, config.labels) if path))
        return [Part(f"{i + 1} of {n}", files) for i in range(n)]

    def raw_files(self) -> dict[str, list[Path]]:
        """The table's files, the stays file and the labels file."""
        config = self.config
        apart = {"stays": config.stays, "labels": config.labels}
        given = {name: [Path(path)] for name, path in apart.items() if path}
        return {"raw": table_files(config.raw, apart.values())} | given

    def _compare_names(self) -> None:
        """Say which names the vocabulary lacks. Raises ``ValueError`` where it has none of them, and where
        a static is in both files."""
        known, seen = {v.name for v in self.variables}, {name for name in self.survey.rows_of if name}
        if both := seen & {name for static in self.statics for name in static.names}:
            raise ValueError(f"{self.config.stays}: the table has {min(both)!r} too: leave it out of statics")
        if seen and not seen & known:
            raise ValueError(
                f"{self.survey.files[0]}: the vocabulary has none of the names in the table: "
                f"{unknown('variable', min(seen), known)}"
            )
        if lacking := sorted(seen - known):
            log.warning("%d names are not in the vocabulary: %s", len(lacking), ", ".join(lacking[:20]))

    def stage(self, folder: Path) -> None:
        """Copies of CSV files in parquet, where several parts are to read them."""
        if self.survey.n_buckets > 1:
            self.copies = as_parquet(itertools.chain(*self.raw_files().values()), folder)

    def read(self, part: Part, tally: Tally) -> Iterator[Chunk]:
        config, columns, files = self.config, self.config.columns, self.survey.files
        number, n = map(int, part.name.split(" of "))
        bucket = Bucket(number - 1, n, self.copies)
        position = {variable.name: i for i, variable in enumerate(self.variables)}
        static = [i for i, variable in enumerate(self.variables) if variable.static]
        rows = read_rows(files, bucket, columns)
        stays = stays_of(rows)
        statics = []
        if config.stays is not None:
            path = Path(config.stays)
            stays = read_stays(path, bucket, columns, self.statics, tally)
            statics = [static_events(path, stays, self.statics, position, tally, config.sentinels)]
        stays = with_admission(stays, rows, tally)
        rows = since_admission(rows, stays, files, columns.time)
        labels = LABEL_SCHEMA.to_frame()
        if config.labels is not None:
            labels = read_labels(Path(config.labels), bucket, columns, self.task_infos(), stays, tally)
        stays = with_length(stays, rows, labels)
        events = events_of(rows, stays, position, static, config.sentinels, tally)
        yield Chunk(stays, pl.concat([*statics, events]), labels)
