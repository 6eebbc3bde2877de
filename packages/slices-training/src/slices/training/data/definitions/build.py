"""Definitions from plain mappings, and labels from definitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from slices.encoders.registry import make_config, unknown
from slices.training.data.cleaning import row_of, sift
from slices.training.data.definitions.base import DEFINITION_REGISTRY, Definition, Records
from slices.training.data.schema import LABEL_SCHEMA, Tally, Variable


def build_definitions(given: Mapping[str, Mapping[str, Any]]) -> tuple[Definition, ...]:
    """``{name: {kind: ..., option: ...}}`` as definitions, in that order.

    Raises ``ValueError`` for a kind or an option that is not there, with the nearest one, or a value that
    is not allowed, ``TypeError`` for one of the wrong type.

    >>> (died,) = build_definitions({"icu_death": {"kind": "mortality", "at": 48}})
    >>> died
    Mortality(name='icu_death', where='icu', at=48.0)
    """
    return tuple(_build(name, options) for name, options in given.items())


def _build(name: str, options: Mapping[str, Any]) -> Definition:
    where = f"definition {name!r}"
    if not isinstance(options, Mapping) or "kind" not in options:
        kinds = ", ".join(DEFINITION_REGISTRY.names())
        raise ValueError(f"{where}: kind is missing, as in {{kind: mortality}}. There are: {kinds}")
    if "name" in options:
        raise ValueError(f"{where}: its key is its name; leave out name={options['name']!r}")
    cls = DEFINITION_REGISTRY.find(options["kind"])
    rest = {key: value for key, value in options.items() if key != "kind"}
    definition: Definition = make_config(cls, {"name": name, **rest}, f"{where} ({options['kind']})")
    return definition


def check_definitions(
    definitions: Sequence[Definition],
    variables: Sequence[Variable],
    outcomes: Sequence[str],
    cut: str | None = None,
) -> None:
    """Raise ``ValueError`` naming a variable, a unit or an outcome that a definition needs and is not there,
    or a definition that needs whole stays where they are cut.

    ``outcomes`` are the columns of the table of outcomes that the source gives, ``cut`` says where its
    records end, see ``Source``.
    """
    units = {variable.name: variable.unit for variable in variables}
    for definition in definitions:
        where = f"definition {definition.name!r} ({definition.kind})"
        if cut is not None and definition.whole_stays:
            raise ValueError(
                f"{where} needs stays that are recorded to their end, those of the source end {cut}: "
                "leave it out, or ask for length_of_stay with where=hospital"
            )
        for column in definition.outcomes:
            if column not in outcomes:
                raise ValueError(
                    f"{where} needs an outcome: {unknown('outcome', column, outcomes)}: "
                    "leave it out, or give the source labels of its own"
                )
        for name, unit in definition.variables.items():
            if name not in units:
                raise ValueError(f"{where} needs a variable: {unknown('variable', name, units)}")
            if units[name] != unit:
                raise ValueError(
                    f"{where} needs {name} in {unit or 'no unit'}, the source has it in "
                    f"{units[name] or 'no unit'}: convert it in the source, or name another variable"
                )


def define(
    definition: Definition,
    stays: pl.DataFrame,
    events: pl.DataFrame,
    outcomes: pl.DataFrame,
    variables: Sequence[Variable],
) -> pl.DataFrame:
    """The labels of one definition. Raises as ``check_definitions`` does."""
    return define_labels([definition], stays, events, outcomes, variables, Tally())


def define_labels(
    definitions: Sequence[Definition],
    stays: pl.DataFrame,
    events: pl.DataFrame,
    outcomes: pl.DataFrame,
    variables: Sequence[Variable],
    tally: Tally,
) -> pl.DataFrame:
    """Rows of the label table by every definition; what gets no label is counted, each by its rule.

    Args:
        definitions: of ``build_definitions``.
        stays, events: tables of a ``Chunk``; the events may reach before admission (negative times).
        outcomes: see ``Records``; a stay without a row has no known outcome.
        variables: what the events are of.
        tally: where it is counted.

    Raises ``ValueError`` as ``check_definitions`` does, or for a stay that has two rows of outcomes.
    """
    check_definitions(definitions, variables, outcomes.columns)
    repeated = outcomes.filter(pl.col("stay_id").is_duplicated())["stay_id"]
    if len(repeated):
        raise ValueError(f"stay {repeated[0]} has more than one row of outcomes: keep one")
    records = Records(stays, events, outcomes.filter(row_of(stays).is_not_null()), variables)
    tables = [LABEL_SCHEMA.to_frame()]
    for definition in definitions:
        table, rules = definition.candidates(records)
        name = definition.name
        named = {f"{name}_{rule}": (f"{name}: {what}; no label", bad) for rule, (what, bad) in rules.items()}
        labels = sift(table, named, tally).with_columns(pl.lit(name).alias("task"), pl.lit(0).alias("column"))
        parts = [labels]
        if "event" in labels.columns:
            parts.append(labels.with_columns(pl.col("event").alias("value"), pl.lit(1).alias("column")))
        tables += [part.select(LABEL_SCHEMA.keys()).cast(LABEL_SCHEMA) for part in parts]
    return pl.concat(tables)
