"""The files of a MEDS dataset: found, and checked column by column."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import polars as pl

from slices.training.data.sources.reading import collect, is_text, require, scan, schema_of, wrong_type

# What a column must be: in words, by its type, and the type it is read as.
KINDS: dict[str, tuple[str, Callable[[pl.DataType], bool], pl.DataType]] = {
    "integer": ("whole numbers", lambda dtype: dtype.is_integer(), pl.Int64()),
    "number": ("numbers", lambda dtype: dtype.is_numeric(), pl.Float64()),
    "boolean": ("true or false", lambda dtype: dtype == pl.Boolean, pl.Boolean()),
    "time": ("timestamps", lambda dtype: isinstance(dtype, pl.Datetime | pl.Date), pl.Datetime("us")),
    "text": ("text", is_text, pl.String()),
}
DATA = {"subject_id": "integer", "time": "time", "code": "text", "numeric_value": "number"}
SPLITS = {"subject_id": "integer", "split": "text"}
NO_SPLIT = "none"


def select(path: Path, columns: Mapping[str, str]) -> pl.LazyFrame:
    """Some columns, each of a kind in ``KINDS``; times in UTC without a time zone.

    Raises ``ValueError`` naming file and column where one is missing or of another kind.
    """
    schema = schema_of(path)
    require(path, schema, columns, "Every such file of the MEDS format has it")
    for column, kind in columns.items():
        wanted, fits, _ = KINDS[kind]
        if not (fits(schema[column]) or schema[column] == pl.Null):
            raise wrong_type(path, schema, column, wanted)
    return scan(path).select(
        _plain(column, schema[column]).cast(KINDS[kind][2]) for column, kind in columns.items()
    )


def _plain(column: str, dtype: pl.DataType) -> pl.Expr:
    if has_zone(dtype):
        return pl.col(column).dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return pl.col(column)


def has_zone(dtype: pl.DataType) -> bool:
    """Whether a column holds times with a time zone."""
    return isinstance(dtype, pl.Datetime) and dtype.time_zone is not None


def check_zones(columns: Mapping[Path, str]) -> None:
    """Raise ``ValueError`` where the times of some files have a time zone and those of others do not."""
    zoned = {file: has_zone(schema_of(file).get(column, pl.Null())) for file, column in columns.items()}
    if len(set(zoned.values())) > 1:
        one, other = (next(file for file in zoned if zoned[file] is has) for has in (True, False))
        raise ValueError(f"{one} has times with a time zone, {other} without: make them alike")


def shards_under(raw: Path) -> list[Path]:
    """The files under ``data/``, sorted."""
    return sorted((raw / "data").rglob("*.parquet"))


def find_shards(raw: Path) -> list[Path]:
    """The same. Raises ``FileNotFoundError`` where there is none."""
    shards = shards_under(raw)
    if not shards:
        raise FileNotFoundError(
            f"{raw} has no data/**/*.parquet: set data.source.raw to a MEDS dataset, the folder that holds "
            "data/ and metadata/"
        )
    return shards


def subjects_of(shards: Sequence[Path]) -> pl.Series:
    """Every subject. Raises ``ValueError`` naming a subject that lies in two shards, and both."""
    tables = [_subjects(shard).with_columns(shard=pl.lit(str(shard))) for shard in shards]
    subjects = pl.concat(tables)
    repeated = subjects.filter(pl.col("subject_id").is_duplicated()).sort("subject_id", "shard")
    if len(repeated):
        subject, shard = repeated.row(0)
        raise ValueError(
            f"subject {subject} lies in {shard} and in {repeated['shard'][1]}: in the MEDS format a "
            "subject's rows lie in one file; shard the dataset again by subject"
        )
    return subjects["subject_id"]


def _subjects(shard: Path) -> pl.DataFrame:
    return collect(shard, select(shard, DATA).select(pl.col("subject_id").drop_nulls().unique()))


def splits_file(raw: Path) -> Path:
    """Where the split of each subject is written."""
    return raw / "metadata" / "subject_splits.parquet"


def read_splits(raw: Path) -> pl.DataFrame:
    """The split of each subject as ``subject_id`` and ``set``; empty where there is no such file.

    Raises ``ValueError`` naming a subject that is in two splits.
    """
    path = splits_file(raw)
    if not path.exists():
        return pl.DataFrame(schema={"subject_id": pl.Int64, "set": pl.String})
    rows = select(path, SPLITS).rename({"split": "set"}).unique().drop_nulls().sort("subject_id", "set")
    splits = collect(path, rows)
    twice = splits.filter(pl.col("subject_id").is_duplicated())
    if len(twice):
        raise ValueError(
            f"{path}: subject {twice['subject_id'][0]} is in the splits {twice['set'][0]} and "
            f"{twice['set'][1]}: a subject belongs to one"
        )
    return splits
