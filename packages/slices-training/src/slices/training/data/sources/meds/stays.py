"""The stays of subjects: from a code that starts one to the next that ends one, or the whole record."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

import polars as pl

from slices.training.data.cleaning import sift
from slices.training.data.schema import Tally

BIRTH = "MEDS_BIRTH"
MAX_STAYS = 999  # of a subject: stay_id is subject_id * 1000 + 1, 2, ...
MAX_SUBJECT = 2**63 // 1000 - 1
HOUR = 3.6e9  # microseconds


@dataclass(frozen=True, kw_only=True)
class StayBounds:
    """Shell-style patterns of the codes that start and end a stay."""

    start: str
    end: str


def matching(codes: list[str], pattern: str) -> list[str]:
    """The codes that match a shell-style pattern."""
    return [code for code in codes if fnmatch.fnmatchcase(code, pattern)]


def hours(later: str, earlier: str) -> pl.Expr:
    """Hours between two columns of times."""
    return (pl.col(later) - pl.col(earlier)).dt.total_microseconds() / HOUR


def bounded_stays(marks: pl.DataFrame, tally: Tally) -> pl.DataFrame:
    """A stay from each start to the end that comes next, as ``subject_id, set, start, end``.

    ``marks`` has ``subject_id, set, time`` and ``is_start``. Starts and ends that have no other half are
    counted. Where one stay ends at the moment the next begins, the end comes first.
    """
    dated = {"mark_without_time": ("a start or end of a stay without a time", pl.col("time").is_null())}
    marks = sift(marks, dated, tally).sort("subject_id", "time", "is_start")
    is_start, each = pl.col("is_start"), "subject_id"
    marks = marks.with_columns(
        ends_next=(~is_start).shift(-1, fill_value=False).over(each),
        started=is_start.shift(1, fill_value=False).over(each),
        end=pl.col("time").shift(-1).over(each),
    )
    halves = {
        "start_without_end": (
            "a start of a stay that another start follows, or nothing",
            is_start & ~pl.col("ends_next"),
        ),
        "end_without_start": ("an end of a stay without a start before it", ~is_start & ~pl.col("started")),
    }
    starts = sift(marks, halves, tally).filter("is_start")
    return starts.select("subject_id", "set", "end", start="time")


def whole_records(rows: pl.LazyFrame) -> pl.LazyFrame:
    """One stay a subject, from the first to the last row with a time, births apart."""
    dated = rows.filter(pl.col("time").is_not_null() & (pl.col("code") != BIRTH).fill_null(True))
    bounds = {"start": pl.col("time").min(), "end": pl.col("time").max()}
    return dated.group_by("subject_id").agg(**bounds).sort("subject_id")


def numbered(stays: pl.DataFrame) -> pl.DataFrame:
    """The same with ``stay_id, patient_id, length_hours``, by subject and start.

    Raises ``ValueError`` naming a subject whose stays cannot be numbered.
    """
    stays = stays.sort("subject_id", "start").with_columns(
        ordinal=pl.int_range(1, pl.len() + 1).over("subject_id"), length_hours=hours("end", "start")
    )
    too_many = stays.filter(pl.col("ordinal") > MAX_STAYS)
    if len(too_many):
        raise ValueError(
            f"subject {too_many['subject_id'][0]} has more than {MAX_STAYS} stays: are stays.start and "
            "stays.end what starts and ends a stay?"
        )
    too_large = stays.filter(~pl.col("subject_id").is_between(-MAX_SUBJECT, MAX_SUBJECT))
    if len(too_large):
        raise ValueError(
            f"subject {too_large['subject_id'][0]}: numbers beyond {MAX_SUBJECT} leave no room to number "
            "stays; renumber the subjects"
        )
    stay_id = pl.col("subject_id") * (MAX_STAYS + 1) + pl.col("ordinal")
    return stays.with_columns(stay_id=stay_id, patient_id=pl.col("subject_id"))


def locate(rows: pl.DataFrame, stays: pl.DataFrame, time: str) -> pl.DataFrame:
    """The rows with ``stay_id``, ``start`` and the ``hours`` since it; null where no stay holds their time.

    A row at the moment at which one stay ends and the next begins belongs to the next.
    """
    starts = stays.select("subject_id", at="start", stay=pl.int_range(pl.len()), row=pl.lit(None, pl.Int64))
    marked = rows.select("subject_id", at=time, stay=pl.lit(None, pl.Int64), row=pl.int_range(pl.len()))
    stay = (
        pl.concat([starts, marked])
        .sort("subject_id", "at", "row", nulls_last=False)
        .with_columns(pl.col("stay").forward_fill().over("subject_id"))
        .drop_nulls("row")
        .sort("row")["stay"]
    )
    begun, ended = stays["start"].gather(stay), stays["end"].gather(stay)
    inside = rows[time] <= ended
    held = pl.DataFrame({"stay_id": stays["stay_id"].gather(stay), "start": begun})
    held = held.with_columns(pl.when(inside).then(pl.all()))
    return rows.hstack(held).with_columns(hours=hours(time, "start"))
