"""From the text of the stays to clean events, each irregularity by a stated rule and counted."""

from __future__ import annotations

import polars as pl

from slices.training.data.cleaning import clean_events, sift
from slices.training.data.schema import EVENT_SCHEMA, Tally

from .variables import ALIASES, DESCRIPTORS, ICU_TYPES, POSITION, VARIABLES

HEADER = "Time,Parameter,Value"
HOURS = 48.0
UNKNOWN = -1.0
CLOCK = (r"(\d{1,3}):[0-5]\d", r"\d{1,3}:([0-5]\d)")  # hours, minutes
AMOUNTS = [i for i, variable in enumerate(VARIABLES) if variable.aggregate == "sum"]
PORTION = 1000  # stays parsed at a time, which bounds memory
CODES = {name: i for i, name in enumerate((*POSITION, *DESCRIPTORS))} | POSITION
NAMES = CODES | {alias: CODES[name] for alias, name in ALIASES.items()}


def parse_set(texts: dict[int, bytes], name: str, tally: Tally) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Stays and events of one set, from the bytes of its files by record number."""
    files = list(texts.items())
    portions = [dict(files[start : start + PORTION]) for start in range(0, len(files), PORTION)]
    parsed = [_parse(portion, name, tally) for portion in portions]
    stays, events = (pl.concat(tables) for tables in zip(*parsed, strict=True))
    return stays, events


def _parse(texts: dict[int, bytes], name: str, tally: Tally) -> tuple[pl.DataFrame, pl.DataFrame]:
    stays = pl.DataFrame({"stay_id": list(texts)}, schema={"stay_id": pl.Int64}).with_columns(
        patient_id="stay_id", set=pl.lit(name), length_hours=pl.lit(HOURS, pl.Float32)
    )
    rows = _rows(_lines(texts, name, tally), tally)
    _check_record_ids(rows, stays, tally)
    rows = rows.filter(pl.col("code") != CODES["RecordID"])
    events = _statics(rows, tally)
    events = clean_events(events.select(EVENT_SCHEMA.keys()).cast(EVENT_SCHEMA), stays, VARIABLES, tally)
    return stays, _merge_same_minute(events, stays, tally)


def _lines(texts: dict[int, bytes], name: str, tally: Tally) -> pl.DataFrame:
    """One row a line, headers apart."""
    decoded = [text.decode("utf-8", "replace").lstrip("\ufeff").rstrip() for text in texts.values()]
    lines = (
        pl.DataFrame({"stay_id": list(texts), "line": decoded})
        .with_columns(pl.col("line").str.split("\n"))
        .explode("line")
        .with_columns(pl.col("line").str.strip_chars(), set=pl.lit(name))
    )
    is_header = pl.col("line") == HEADER
    n_headers = lines.filter(is_header)
    n_with_header = n_headers["stay_id"].n_unique()
    tally.add(
        "no_header",
        "a stay whose file lacks the header line; read all the same",
        {name: len(texts) - n_with_header},
    )
    tally.add(
        "repeated_header", "a header line after the first; left out", {name: len(n_headers) - n_with_header}
    )
    lines = lines.filter(~is_header)
    return sift(
        lines,
        {
            "blank_line": ("an empty line", pl.col("line") == ""),
            "malformed_line": (
                "a line without exactly three fields",
                pl.col("line").str.count_matches(",", literal=True) != 2,
            ),
        },
        tally,
    )


def _rows(lines: pl.DataFrame, tally: Tally) -> pl.DataFrame:
    """Time in hours, code of the parameter and value of each line that has them."""
    fields = pl.col("line").str.split_exact(",", 2).struct.rename_fields(["clock", "parameter", "text"])
    rows = lines.select("stay_id", "set", fields).unnest("line")
    rows = rows.with_columns(pl.col("clock", "parameter", "text").str.strip_chars())
    clock = rows.select(pl.col("clock").unique()).to_series()
    hour, minute = (clock.str.extract(rf"^{part}$").cast(pl.Float64) for part in CLOCK)
    rows = rows.with_columns(
        time=pl.col("clock").replace_strict(clock, hour + minute / 60, default=None),
        code=pl.col("parameter").replace_strict(NAMES, default=None, return_dtype=pl.Int16),
        value=pl.col("text").cast(pl.Float64, strict=False),
    )
    rules = {
        "bad_clock": ("a time that is not HH:MM", pl.col("time").is_null()),
        "after_48_hours": ("a time after 48:00", pl.col("time") > HOURS),
        "blank_parameter": ("a line without the name of a parameter", pl.col("parameter") == ""),
        "unknown_parameter": ("a parameter the challenge does not describe", pl.col("code").is_null()),
        "not_a_number": ("a value that is not a number", pl.col("value").is_null()),
        "unknown_value": ("a value of -1, which stands for unknown", pl.col("value") == UNKNOWN),
    }
    return sift(rows, rules, tally).select("stay_id", "set", "time", "code", "value")


def _check_record_ids(rows: pl.DataFrame, stays: pl.DataFrame, tally: Tally) -> None:
    """The file's name is what counts; a RecordID line that is missing or differs is only counted."""
    ids = rows.filter(pl.col("code") == CODES["RecordID"])
    name = stays["set"][0]
    wrong = ids.filter(pl.col("value") != pl.col("stay_id"))["stay_id"].n_unique()
    tally.add(
        "no_record_id",
        "a stay without a RecordID line; its file's name counts",
        {name: len(stays) - ids["stay_id"].n_unique()},
    )
    tally.add(
        "other_record_id", "a stay whose RecordID differs from its file's name, which counts", {name: wrong}
    )


def _statics(rows: pl.DataFrame, tally: Tally) -> pl.DataFrame:
    """Descriptors at time 0, the first of each, ICUType as one column a type."""
    static = pl.col("code").is_in([i for i, v in enumerate(VARIABLES) if v.static] + [CODES["ICUType"]])
    first = pl.struct("stay_id", "code", pl.col("time") == 0).is_first_distinct()  # a late one is none
    described = sift(
        rows.filter(static),
        {
            "late_descriptor": ("a general descriptor at another time than 00:00", pl.col("time") != 0),
            "repeated_descriptor": ("a general descriptor given again; the first counts", ~first),
            "bad_icu_type": (
                "an ICUType other than 1, 2, 3, 4",
                (pl.col("code") == CODES["ICUType"]) & ~pl.col("value").is_in([1.0, 2.0, 3.0, 4.0]),
            ),
        },
        tally,
    ).with_columns(time=pl.lit(0.0))
    is_icu = pl.col("code") == CODES["ICUType"]
    types = pl.DataFrame(
        {"type": [1.0, 2.0, 3.0, 4.0], "column": [POSITION[f"ICUType_{icu}"] for icu in ICU_TYPES]}
    )
    one_hot = (
        described.filter(is_icu)
        .join(types, how="cross")
        .with_columns(
            code=pl.col("column").cast(pl.Int16), value=(pl.col("type") == pl.col("value")).cast(pl.Float64)
        )
    )
    return pl.concat([rows.filter(~static), described.filter(~is_icu), one_hot.select(rows.columns)]).rename(
        {"code": "variable"}
    )


def _merge_same_minute(events: pl.DataFrame, stays: pl.DataFrame, tally: Tally) -> pl.DataFrame:
    """Of several values of a variable in one minute, their mean; of several amounts (urine), the sum."""
    key = ["stay_id", "time", "variable"]
    minute = (pl.col("time") * 60).round().cast(pl.Int64)
    packed = (pl.col("stay_id") * 10_000 + minute) * 100 + pl.col("variable")
    repeated = events.select(packed.is_duplicated()).to_series()
    value = pl.col("value")
    one = pl.when(pl.col("variable").is_in(AMOUNTS).first()).then(value.sum()).otherwise(value.mean())
    merged = events.filter(repeated).group_by(key, maintain_order=True).agg(one)
    tally.add(
        "same_minute",
        "a further value of one variable in one minute; the mean, of amounts the sum, is kept",
        {stays["set"][0]: int(repeated.sum()) - len(merged)},
    )
    return pl.concat([events.filter(~repeated), merged])
