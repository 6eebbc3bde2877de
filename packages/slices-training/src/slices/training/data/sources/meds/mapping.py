"""Which codes of a MEDS dataset are which variable, and what their values become."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import polars as pl

from slices.encoders.registry import make_config, unknown
from slices.training.data.schema import Variable
from slices.training.data.vocabulary import read_vocabulary, read_yaml

CLAIM_SCHEMA = pl.Schema(
    {
        "code": pl.String,
        "claim": pl.Int32,
        "variable": pl.Int16,
        "static": pl.Boolean,
        "factor": pl.Float64,
        "offset": pl.Float64,
        "constant": pl.Float64,
        "is_age": pl.Boolean,
        "term": pl.Int16,
        "terms": pl.Int16,
    }
)


@dataclass(frozen=True, kw_only=True)
class CodeEntry:
    """The codes that match a shell-style pattern, and the value of their rows.

    That is ``numeric_value * factor + offset``, or ``value`` where the code itself says it; "age" stands
    for the years from the row's time to the start of the stay.
    """

    code: str
    factor: float = 1.0
    offset: float = 0.0
    value: float | Literal["age"] | None = None

    def __post_init__(self) -> None:
        if self.value is not None and (self.factor, self.offset) != (1.0, 0.0):
            raise ValueError(f"code {self.code!r}: give value, or factor and offset, not both")


class Claim(NamedTuple):
    """An entry of a variable. Of a sum it is one of several ``terms``, else the only one."""

    variable: int
    entry: CodeEntry
    term: int = 0
    terms: int = 1


class CodeMap:
    """The codes of the variables; no code belongs to two entries."""

    def __init__(self, name: str, variables: tuple[Variable, ...], claims: tuple[Claim, ...]) -> None:
        """Raises ``ValueError`` where it can be told from the patterns alone that two claim one code."""
        self.name, self.variables, self.claims = name, variables, claims
        expressions = [fnmatch.translate(claim.entry.code) for claim in claims]
        self._patterns = [re.compile(expression) for expression in expressions]
        self._any = re.compile("|".join(expressions))
        self.table(claim.entry.code for claim in claims)

    def table(self, codes: Iterable[str]) -> pl.DataFrame:
        """One row of ``CLAIM_SCHEMA`` for each of these codes that is mapped.

        Raises ``ValueError`` naming the code and both patterns where two entries claim it.
        """
        rows = [self._row(code) for code in codes if self._any.match(code)]
        return pl.DataFrame(rows, CLAIM_SCHEMA, orient="row")

    def _row(self, code: str) -> tuple[Any, ...]:
        found = [i for i, pattern in enumerate(self._patterns) if pattern.match(code)]
        if len(found) > 1:
            both = (self.claims[i] for i in found[:2])
            which = " and ".join(f"{self.variables[c.variable].name} ({c.entry.code})" for c in both)
            raise ValueError(
                f"mapping {self.name}: the code {code!r} is claimed by {which}: "
                "a code can mean one thing; make the patterns narrower"
            )
        variable, entry, term, terms = self.claims[found[0]]
        is_age = entry.value == "age"
        constant = None if is_age else entry.value
        static = self.variables[variable].static
        return (
            *(code, found[0], variable, static, entry.factor, entry.offset, constant),
            *(is_age, term, terms),
        )


def read_mapping(name: str, vocabulary: str) -> CodeMap:
    """The mapping ``configs/mapping/<name>.yaml`` or a file of one's own; its variables are the vocabulary's.

    Raises ``FileNotFoundError``, ``ValueError`` or ``TypeError`` naming mapping, variable and entry.

    >>> codes = read_mapping("mimic_iv", "icu")
    >>> row = codes.table(["LAB//220045//bpm", "a code of no variable"])
    >>> codes.variables[row["variable"].item()].name
    'hr'
    """
    known, given = read_vocabulary(vocabulary), read_yaml("mapping", name)
    for key in given:
        if key not in known:
            raise ValueError(f"mapping {name}: {unknown('variable', key, known)} (vocabulary {vocabulary})")
    variables = tuple(variable for key, variable in known.items() if key in given)
    claims = [
        claim
        for position, variable in enumerate(variables)
        for claim in _claims(position, variable, given[variable.name], f"mapping {name}: {variable.name}")
    ]
    return CodeMap(name, variables, tuple(claims))


def _claims(position: int, variable: Variable, given: Any, where: str) -> list[Claim]:
    is_sum = isinstance(given, Mapping) and set(given) == {"sum"}
    listed = given["sum"] if is_sum else given
    entries = [_entry(item, where) for item in (listed if isinstance(listed, list) else [listed])]
    if not entries:
        raise ValueError(f"{where}: no code is given: name some, or leave the variable out")
    if variable.static and is_sum:
        raise ValueError(f"{where}: the variable is static, so that it cannot be a sum of measurements")
    if not variable.static and any(entry.value == "age" for entry in entries):
        raise ValueError(f"{where}: only a static variable can have the value 'age'")
    if not is_sum:
        return [Claim(position, entry) for entry in entries]
    return [Claim(position, entry, term, len(entries)) for term, entry in enumerate(entries)]


def _entry(item: Any, where: str) -> CodeEntry:
    if isinstance(item, str | Mapping):
        return make_config(CodeEntry, {"code": item} if isinstance(item, str) else item, where)
    raise TypeError(f"{where}: {item!r} must be a code, or a mapping as in {{code: TEMP//F, factor: 0.5556}}")
