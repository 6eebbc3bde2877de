"""The PhysioNet/CinC Challenge 2012: 12,000 ICU stays of 48 hours (Silva et al., 2012), as released."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from slices.encoders.registry import unknown
from slices.training.data.cleaning import row_of, sift
from slices.training.data.raw import files_under
from slices.training.data.schema import Chunk, Tally
from slices.training.data.sources.base import Part, Source, register_source
from slices.training.data.sources.outcomes import KNOWN, known_outcomes

from .files import SETS, download, find_sets, locate, outcomes_file, read_stays, stay_numbers
from .organs import organ_failures
from .parsing import parse_set
from .tasks import TASKS, read_outcomes
from .variables import VARIABLES

__all__ = ["PhysioNet2012Config", "PhysioNet2012Source"]


@dataclass(kw_only=True)
class PhysioNet2012Config:
    """Where the sets lie, which to take (empty: every one found), and whether to download what is missing."""

    raw: str = field(default="data/physionet2012", metadata={"content": False})
    sets: tuple[str, ...] = ()
    download: bool = field(default=False, metadata={"content": False})

    def __post_init__(self) -> None:
        for name in self.sets:
            if name not in SETS:
                raise ValueError(f"sets: {unknown('set', name, SETS)}")


@register_source("physionet2012", PhysioNet2012Config)
class PhysioNet2012Source(Source):
    """Sets a, b and c as folders, .tar.gz or .zip, each with its ``Outcomes-x.txt`` where there is one."""

    version = 5
    variables = VARIABLES
    tasks = TASKS
    outcomes = KNOWN
    cut = "after 48 hours"
    config: PhysioNet2012Config

    def parts(self) -> Sequence[Part]:
        """One a set, after downloading what is missing where that is asked for."""
        raw, wanted = Path(self.config.raw), self.config.sets
        if self.config.download:
            download(raw, wanted)
        sets = find_sets(raw, wanted)
        paths = [str(path) for path in sets.values()]
        return [  # with the earlier sets, whose stays it leaves out
            Part(name, (paths[i], str(outcomes_file(raw, name)), *paths[:i])) for i, name in enumerate(sets)
        ]

    def raw_files(self) -> dict[str, list[Path]]:
        """Those of the sets that are there, of the wanted ones or of all."""
        raw, wanted = Path(self.config.raw), self.config.sets or SETS
        sets = {name: path for name in wanted if (path := locate(raw, name))}
        files = [file for path in sets.values() for file in files_under(path)]
        return {"raw": [*files, *(outcomes_file(raw, name) for name in sets)]}

    def read(self, part: Part, tally: Tally) -> Iterator[Chunk]:
        path, outcomes = map(Path, part.files[:2])
        texts, ignored = read_stays(path)
        tally.add(
            "ignored_file",
            "a file that is no stay, or a second one of the same number",
            {part.name: ignored},
        )
        stays, events = parse_set(texts, part.name, tally)
        rule = {
            "repeated_stay": (
                "a stay of an earlier set; that one counts",
                pl.col("stay_id").is_in(self._earlier_stays(part)),
            )
        }
        stays = sift(stays, rule, tally)
        events = events.filter(row_of(stays).is_not_null())
        labels = _labels(part.name, outcomes, stays, events, tally)
        yield Chunk(stays, events, labels, known_outcomes(labels))

    def _earlier_stays(self, part: Part) -> list[int]:
        sets = find_sets(Path(self.config.raw), self.config.sets)
        before = list(sets)[: list(sets).index(part.name)]
        return [stay for name in before for stay in stay_numbers(sets[name])]


def _labels(
    name: str, outcomes: Path, stays: pl.DataFrame, events: pl.DataFrame, tally: Tally
) -> pl.DataFrame:
    """All labels of a set; without its outcome file only those that come from the measurements."""
    tables = [organ_failures(events)]
    if outcomes.exists():
        tables.append(read_outcomes(outcomes, name, stays, tally))
    else:
        tally.add("no_outcome", "a stay without an outcome; unlabelled", {name: len(stays)})
    return pl.concat(tables)
