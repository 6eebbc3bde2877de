"""Any dataset in the MEDS format (0.3 and 0.4), by a mapping of its codes."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from slices.encoders.registry import make_config
from slices.training.data.raw import files_under
from slices.training.data.schema import LABEL_SCHEMA, Chunk, Tally, TaskInfo, Variable
from slices.training.data.sources.base import Part, Source, register_source

from .events import KNOWN_BY, events_of
from .labels import LabelTable, count_strangers, read_labels
from .mapping import read_mapping
from .outcomes import KNOWN, outcomes_of
from .shard import Shard
from .stays import StayBounds
from .tables import check_zones, find_shards, read_splits, shards_under, splits_file, subjects_of

__all__ = ["LabelTable", "MedsConfig", "MedsSource", "StayBounds"]

PORTION = 200  # subjects read at a time, which bounds memory


def _icu_stays() -> StayBounds:
    return StayBounds(start="ICU_ADMISSION//*", end="ICU_DISCHARGE//*")


@dataclass(kw_only=True)
class MedsConfig:
    """Where the dataset lies, which code is which variable, what a stay is, and the label tables.

    ``mapping``: a name in ``configs/mapping/`` or a .yaml file, from variables of ``vocabulary`` to codes.
    ``stays``: null makes each subject's whole record one stay. ``death`` and ``discharge`` (from hospital)
    are patterns of the codes that task definitions learn outcomes from. ``labels``: by task, see
    ``LabelTable``.
    """

    raw: str = field(default="data/meds", metadata={"content": False})
    mapping: str = "mimic_iv"
    vocabulary: str = "icu"
    stays: StayBounds | None = field(default_factory=_icu_stays)
    death: str = "MEDS_DEATH"
    discharge: str = "HOSPITAL_DISCHARGE//*"
    labels: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tables = {
            name: make_config(LabelTable, given, f"labels.{name}") for name, given in self.labels.items()
        }
        self.labels = tables
        for name, table in tables.items():
            table.task(name)


@register_source("meds", MedsConfig)
class MedsSource(Source):
    """Events, stays and label tables of a MEDS dataset; each of its files is a part."""

    outcomes = KNOWN
    statics_known_after = KNOWN_BY
    config: MedsConfig

    def __init__(self, config: MedsConfig) -> None:
        super().__init__(config)
        self.codes = read_mapping(config.mapping, config.vocabulary)
        self.raw = Path(config.raw)

    @property
    def variables(self) -> tuple[Variable, ...]:
        """Those of the vocabulary that have codes."""
        return self.codes.variables

    @cached_property
    def tasks(self) -> tuple[TaskInfo, ...]:
        """One a label table."""
        return tuple(table.task(name) for name, table in self.config.labels.items())

    def options(self) -> dict[str, Any]:
        """With the content of mapping and vocabulary, which may change while their names do not."""
        plain = dataclasses.asdict(self.config)
        content = repr((self.variables, self.codes.claims)).encode()
        del plain["raw"]
        for table in plain["labels"].values():
            table["classes"] = list(table["classes"])
        return plain | {"mapped": hashlib.sha256(content).hexdigest()[:16]}

    def parts(self) -> Sequence[Part]:
        """One a file under ``data/``. Raises ``ValueError`` also where a subject lies in several."""
        shards, labels = find_shards(self.raw), self._label_files()
        tables = [file for files in labels.values() for file in files]
        subjects_of(shards)
        check_zones({shard: "time" for shard in shards} | {file: "prediction_time" for file in tables})
        others = (str(splits_file(self.raw)), *map(str, tables))
        names = [shard.relative_to(self.raw / "data").as_posix() for shard in shards]
        first, *rest = map(str, shards)
        counted = (first, *others, *rest)  # with the first, labels of subjects that no file has are counted
        return [
            Part(names[0], counted),
            *(Part(n, (s, *others)) for n, s in zip(names[1:], rest, strict=True)),
        ]

    def raw_files(self) -> dict[str, list[Path]]:
        """The data, the splits, and each label table as ``labels.<task>``."""
        tables = {f"labels.{n}": files_under(self.raw / t.file) for n, t in self.config.labels.items()}
        return {"raw": [*shards_under(self.raw), splits_file(self.raw)]} | tables

    def read(self, part: Part, tally: Tally) -> Iterator[Chunk]:
        labels, shard = self._label_files(), Shard(Path(part.files[0]), self.codes, self.config.stays)
        self._count_strangers(shard.path, labels, tally)
        subjects = shard.subjects(read_splits(self.raw), tally)
        stays = shard.stays(subjects, tally)
        ends = shard.ends_of_life_and_care(self.config.death, self.config.discharge)
        for portion in subjects.iter_slices(PORTION):
            theirs = stays.filter(pl.col("subject_id").is_in(portion["subject_id"].to_list()))
            tables = [read_labels(labels[t.name], t, portion, theirs, tally) for t in self.tasks]
            yield Chunk(
                theirs,
                events_of(shard.rows_of(portion), shard.claims, theirs, tally),
                pl.concat([LABEL_SCHEMA.to_frame(), *tables]),
                outcomes_of(theirs, ends),
            )

    def admissions(self) -> pl.DataFrame:
        """When each stay starts, read from the files again: a dataset keeps hours only."""
        splits, tables = read_splits(self.raw), []
        for path in find_shards(self.raw):
            shard, tally = Shard(path, self.codes, self.config.stays), Tally()
            tables.append(shard.stays(shard.subjects(splits, tally), tally))
        stays = pl.concat([table.select("stay_id", admission="start") for table in tables])
        return stays.cast({"admission": pl.Datetime("us")})

    def _label_files(self) -> dict[str, list[Path]]:
        return {name: table.files(self.raw) for name, table in self.config.labels.items()}

    def _count_strangers(self, shard: Path, labels: dict[str, list[Path]], tally: Tally) -> None:
        """Labels of subjects that no file has, counted with the first file."""
        shards = find_shards(self.raw)
        if labels and shard == shards[0]:
            known = subjects_of(shards)
            for files in labels.values():
                count_strangers(files, known, tally)
