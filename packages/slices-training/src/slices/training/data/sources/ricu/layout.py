"""Which columns the three tables have, and which variables they give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import polars as pl

from slices.encoders.registry import unknown
from slices.training.data.schema import Variable
from slices.training.data.sources.reading import hours, is_text, number, require, schema_of, whole
from slices.training.data.sources.statics import Static, find_statics

TABLES = ("dyn", "sta", "outc")
PATIENT = ("patient_id", "subject_id")
REMEDY = "ricu and YAIB write it so; rename yours"


class Patients(NamedTuple):
    """The table and the column in it that say whose stay it is."""

    path: Path
    schema: pl.Schema
    column: str


class Layout(NamedTuple):
    """The columns of each table (``outc`` is empty where there is none), and what they are."""

    folder: Path
    dyn: pl.Schema
    sta: pl.Schema
    outc: pl.Schema
    dynamic: tuple[str, ...]
    statics: tuple[Static, ...]
    patients: Patients | None

    def path(self, table: str) -> Path:
        """The file of a table."""
        return table_path(self.folder, table)


def table_path(folder: Path, table: str) -> Path:
    return folder / f"{table}.parquet"


def find_layout(
    folder: Path,
    vocabulary: Mapping[str, Variable],
    *,
    keep_unknown: bool = False,
    patients: str | None = None,
    patient_column: str | None = None,
) -> Layout:
    """The layout of a folder, with patients from a file of their own or from ``sta``.

    Raises ``FileNotFoundError`` for a missing folder or table (``outc`` may be missing), ``ValueError`` for
    a file that cannot be read, a missing column, one of the wrong type, or one that the vocabulary lacks.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: set data.source.raw to the one that holds dyn.parquet")
    paths = {table: table_path(folder, table) for table in TABLES}
    dyn, sta = schema_of(paths["dyn"]), schema_of(paths["sta"])
    outc = schema_of(paths["outc"]) if paths["outc"].exists() else pl.Schema()
    for table, schema in (("dyn", dyn), ("sta", sta), ("outc", outc)):
        _check_keys(paths[table], schema, table)
    dynamic = tuple(column for column in dyn if column not in ("stay_id", "time"))
    for table, schema, columns in (("dyn", dyn, dynamic), ("outc", outc, ("label",) if outc else ())):
        for column in columns:
            _check_numbers(paths[table], schema, column)
    own = [column for column in sta if column not in ("stay_id", *PATIENT, patient_column)]
    statics = find_statics(paths["sta"], sta, own, vocabulary)
    whose = find_patients(Path(patients) if patients else paths["sta"], patient_column, patients is not None)
    layout = Layout(folder, dyn, sta, outc, dynamic, statics, whose)
    _check_names(layout, vocabulary, keep_unknown)
    return layout


def find_patients(path: Path, column: str | None, needed: bool) -> Patients | None:
    """Where the patients are: in the column that is named, else in one of ``PATIENT``, if there is one.

    Raises ``ValueError`` for one that is missing though named or ``needed``, or of the wrong type.
    """
    schema = schema_of(path)
    found = column or next((name for name in PATIENT if name in schema), PATIENT[0] if needed else None)
    if found is None:
        return None
    require(path, schema, ("stay_id",), REMEDY)
    require(path, schema, (found,), "Set data.source.patient_column to its name")
    whole(path, schema, found)
    return Patients(path, schema, found)


def _check_keys(path: Path, schema: pl.Schema, table: str) -> None:
    needed = {"dyn": ("stay_id", "time"), "sta": ("stay_id",), "outc": ("stay_id", "label")}[table]
    if table == "outc" and not schema:
        return
    require(path, schema, needed, REMEDY)
    whole(path, schema, "stay_id")
    _check_numbers(path, schema, "stay_id")
    if table != "sta" and "time" in schema:
        hours(path, schema, "time")


def _check_numbers(path: Path, schema: pl.Schema, column: str) -> None:
    number(path, schema, column)
    if is_text(schema[column]):
        raise ValueError(f"{path}: column {column!r} holds text, not numbers: convert it, or remove it")


def _check_names(layout: Layout, vocabulary: Mapping[str, Variable], keep_unknown: bool) -> None:
    static = tuple(name for of in layout.statics for name in of.names)
    for table, names in (("dyn", layout.dynamic), ("sta", static)):
        path = layout.path(table)
        for name in names:
            if name not in vocabulary and not (keep_unknown and name.strip()):
                raise ValueError(
                    f"{path}: {unknown('variable', name, vocabulary)}. Rename or remove the column, describe "
                    "it in a vocabulary of your own, or set data.source.keep_unknown=true"
                )
            if name in vocabulary and vocabulary[name].static != (table == "sta"):
                raise ValueError(
                    f"{path}: the vocabulary has {name!r} as {'' if table == 'dyn' else 'not '}static: move "
                    f"the column to {'sta' if table == 'dyn' else 'dyn'}.parquet, or change the vocabulary"
                )
    if repeated := [name for name, count in Counter((*layout.dynamic, *static)).items() if count > 1]:
        raise ValueError(f"{layout.folder}: variable {repeated[0]!r} comes from two columns: rename one")


def unknown_variables(layout: Layout, vocabulary: Mapping[str, Variable]) -> tuple[Variable, ...]:
    """Variables for what the vocabulary lacks, in the order of the columns."""
    static = [name for of in layout.statics for name in of.names]
    return (
        *(Variable(name=name) for name in layout.dynamic if name not in vocabulary),
        *(Variable(name=name, static=True) for name in static if name not in vocabulary),
    )
