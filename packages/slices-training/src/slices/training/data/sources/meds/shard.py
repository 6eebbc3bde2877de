"""One file of a MEDS dataset: its subjects, their stays, and the rows that are mapped."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from slices.training.data.schema import Tally
from slices.training.data.sources.reading import collect

from .mapping import CodeMap
from .stays import StayBounds, bounded_stays, matching, numbered, whole_records
from .tables import DATA, NO_SPLIT, select


class Shard:
    """A file under ``data/``, scanned anew for what is asked for; of its rows only those are ever in memory.

    ``claims`` are the mapped ones of its codes, ``starts`` and ``ends`` those that bound a stay.
    """

    def __init__(self, path: Path, codes: CodeMap, bounds: StayBounds | None) -> None:
        """Raises ``ValueError`` naming the file and a column, or a code that means two things."""
        self.path, self.bounds = path, bounds
        self.rows = select(path, DATA)
        codes_there = self.rows.select(pl.col("code").drop_nulls().unique().sort())
        there = collect(path, codes_there)["code"].to_list()
        self.codes = there
        self.claims = codes.table(there)
        self.starts = matching(there, bounds.start) if bounds else []
        self.ends = matching(there, bounds.end) if bounds else []
        if both := set(self.starts) & set(self.ends):
            raise ValueError(
                f"{path}: the code {min(both)!r} both starts and ends a stay: see data.source.stays"
            )

    def subjects(self, splits: pl.DataFrame, tally: Tally) -> pl.DataFrame:
        """``subject_id`` and ``set`` of every subject; rows that nothing is made of are counted."""
        used = [*self.claims["code"], *self.starts, *self.ends]
        unused = (~pl.col("code").is_in(used)).fill_null(True)
        found = self.rows.group_by("subject_id").agg(rows=pl.len(), unused=unused.sum())
        subjects = (
            collect(self.path, found)
            .join(splits, on="subject_id", how="left")
            .with_columns(pl.col("set").fill_null(NO_SPLIT))
            .sort("subject_id")
        )
        nobody = subjects.filter(pl.col("subject_id").is_null())
        tally.add("no_subject", "a row without a subject", {NO_SPLIT: int(nobody["rows"].sum())})
        known = subjects.filter(pl.col("subject_id").is_not_null())
        per_set = known.group_by("set").agg(pl.col("unused").sum()).sort("set")
        tally.add(
            "unmapped_code", "a row with a code that the mapping does not name", dict(per_set.iter_rows())
        )
        return known.select("subject_id", "set")

    def stays(self, subjects: pl.DataFrame, tally: Tally) -> pl.DataFrame:
        """The stays of all subjects, see ``numbered``."""
        if self.bounds is None:
            stays = collect(self.path, whole_records(self.rows)).join(subjects, on="subject_id")
        else:
            is_start = pl.col("code").is_in(self.starts)
            marks = self.rows.filter(pl.col("code").is_in(self.starts + self.ends))
            marks = marks.select("subject_id", "time", is_start=is_start)
            stays = bounded_stays(collect(self.path, marks).join(subjects, on="subject_id"), tally)
        without = stays.filter(pl.col("set") == NO_SPLIT)
        tally.add("no_split", "a stay of a subject that is in no split", {NO_SPLIT: len(without)})
        return numbered(stays)

    def ends_of_life_and_care(self, death: str, discharge: str) -> pl.DataFrame:
        """``subject_id, time, is_death`` of every row whose code matches one of the two patterns."""
        there = self.codes
        deaths, discharges = matching(there, death), matching(there, discharge)
        ends = self.rows.filter(pl.col("code").is_in(deaths + discharges) & pl.col("time").is_not_null())
        is_death = pl.col("code").is_in(deaths)
        return collect(self.path, ends.select("subject_id", "time", is_death=is_death))

    def rows_of(self, subjects: pl.DataFrame) -> pl.DataFrame:
        """The mapped rows of subjects that follow each other in the table of all, with their ``set``."""
        first, last = subjects["subject_id"][0], subjects["subject_id"][-1]
        theirs = pl.col("subject_id").is_between(first, last)  # lets row groups be skipped
        mapped = self.rows.filter(theirs & pl.col("code").is_in(self.claims["code"].to_list()))
        return collect(self.path, mapped).join(subjects, on="subject_id")
