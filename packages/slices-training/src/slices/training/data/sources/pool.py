"""Several sources as one: mapped to a common vocabulary, to pretrain together or to leave one out."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from slices.encoders.registry import make_config, unknown
from slices.training.data.cleaning import clean_events, sift
from slices.training.data.schema import OUTCOME_SCHEMA, Chunk, Tally, TaskInfo, Variable
from slices.training.data.sources.base import Part, Source, build_source, register_source
from slices.training.data.vocabulary import read_vocabulary, read_yaml, stamped

IDS = 2**40  # stay and patient ids of a member lie below it; those of member k get k * IDS added, but
# patients of several members of one hospital all get what those of the first of them get


@dataclass(frozen=True, kw_only=True)
class Renamed:
    """A member's variable: ``value * factor + offset`` is in the vocabulary's unit."""

    name: str
    factor: float = 1.0
    offset: float = 0.0


@dataclass(kw_only=True)
class MemberConfig:
    """A member: its source, and the renaming of its variables.

    ``renaming`` names a file in ``configs/renaming/`` or is the path of one: for each variable of the
    vocabulary the member's, or several, each a name or ``{name:, factor:, offset:}``. Without one, variables
    of the vocabulary's names are taken, and have to be in its units. Members of one ``hospital`` number their
    patients alike: one number is one person in all of them. Without one a member's patients are its own.
    """

    source: dict[str, Any]
    renaming: str | None = None
    hospital: str | None = None


@dataclass(kw_only=True)
class PoolConfig:
    """The common vocabulary, and the members by name: each stay's set becomes ``<member>/<set>``."""

    vocabulary: str = "icu"
    members: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.members:
            if "/" in name:
                raise ValueError(f"members: {name!r}: a name may not have a slash")


UNNAMED = "label"  # what the labels of hourly tables are called where nothing else is said


class Columns(NamedTuple):
    """For each variable of a member: its position in the pool, or -1, and the way to the pool's unit."""

    position: npt.NDArray[np.int16]
    factor: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]


@register_source("pool", PoolConfig)
class PoolSource(Source):
    """The stays of all members, with the variables of the vocabulary that at least one of them has.

    A member's values are cleaned by its own rules first, then by the vocabulary's. Tasks of one name have
    to be the same task in every member that has it.
    """

    version = 2
    config: PoolConfig

    @cached_property
    def members(self) -> dict[str, Source]:
        """The members' sources. Raises ``ValueError`` where there are none."""
        if not self.config.members:
            raise ValueError(
                "the source 'pool' has no members: give data.source.members, as in "
                "{mimic: {source: {name: meds, raw: data/mimic}}}"
            )
        members = {name: build_source(config.source) for name, config in self._configs.items()}
        for (one, source), (other, again) in itertools.combinations(members.items(), 2):
            hospital = self._configs[one].hospital
            same = set(source.places().values()) & set(again.places().values())
            if same and (hospital is None or hospital != self._configs[other].hospital):
                raise ValueError(
                    f"the members {one} and {other} are both read from {min(same)}: leave one out, or "
                    "give both the same `hospital`, so that their patients are the same"
                )
        return members

    @cached_property
    def _configs(self) -> dict[str, MemberConfig]:
        return {
            name: make_config(MemberConfig, given, f"data.source.members.{name}")
            for name, given in self.config.members.items()
        }

    @cached_property
    def variables(self) -> tuple[Variable, ...]:
        """The vocabulary's variables that some member has, in the vocabulary's order."""
        mapped = {key for renaming in self._renamings.values() for key in renaming}
        return tuple(variable for key, variable in self._vocabulary.items() if key in mapped)

    @cached_property
    def _vocabulary(self) -> dict[str, Variable]:
        return read_vocabulary(self.config.vocabulary)

    @cached_property
    def _renamings(self) -> dict[str, dict[str, tuple[Renamed, ...]]]:
        return {member: self._renaming(member) for member in self.members}

    @cached_property
    def tasks(self) -> tuple[TaskInfo, ...]:
        """The tasks of all members. Raises ``ValueError`` where one name means two things."""
        found: dict[str, tuple[str, TaskInfo]] = {}
        for member, source in self.members.items():
            for task in source.tasks:
                first, known = found.setdefault(task.name, (member, task))
                if first != member and task.name == UNNAMED:
                    raise ValueError(
                        f"the members {first} and {member} both have a task {UNNAMED!r}, which may be two "
                        "different things: set task_name of each to what its labels mean"
                    )
                if known != task:
                    raise ValueError(
                        f"task {task.name!r} is not the same in the members {first} ({known}) and {member} "
                        f"({task}): leave it out of one of them"
                    )
        return tuple(task for _, task in found.values())

    @cached_property
    def outcomes(self) -> tuple[str, ...]:
        """The outcomes that some member knows."""
        known = {name for source in self.members.values() for name in source.outcomes}
        return tuple(name for name in OUTCOME_SCHEMA if name in known)

    @property
    def cut(self) -> str | None:  # type: ignore[override]
        """Where the records end of the first member that has them cut."""
        ends = (f"{source.cut} (in the member {name})" for name, source in self.members.items() if source.cut)
        return next(ends, None)

    @property
    def statics_known_after(self) -> float:  # type: ignore[override]
        """When those of the last member are."""
        return max(source.statics_known_after for source in self.members.values())

    def options(self) -> dict[str, Any]:
        """Each member's source, version and options."""
        described = {
            name: {
                "source": source.name,
                "version": source.version,
                "options": source.options(),
                "renaming": self._digest(name),
            }
            | ({"hospital": hospital} if (hospital := self._configs[name].hospital) else {})
            for name, source in self.members.items()
        }
        return {"vocabulary": stamped(self.config.vocabulary), "members": described}

    def _digest(self, member: str) -> str:
        """The renaming's name with a digest of what it says."""
        content = hashlib.sha256(repr(self._renamings[member]).encode()).hexdigest()[:8]
        return f"{Path(self._configs[member].renaming or 'by name').stem} ({content})"

    def parts(self) -> Sequence[Part]:
        """Those of all members."""
        return [
            Part(f"{member}/{part.name}", part.files)
            for member, source in self.members.items()
            for part in source.parts()
        ]

    def places(self) -> dict[str, str]:
        """Those of all members."""
        return {
            f"members.{member}.source.{name}": place
            for member, source in self.members.items()
            for name, place in source.places().items()
        }

    def raw_files(self) -> dict[str, Sequence[Path]]:
        """Those of all members."""
        return {
            f"members.{member}.source.{name}": files
            for member, source in self.members.items()
            for name, files in source.raw_files().items()
        }

    def stage(self, folder: Path) -> None:
        """What each member puts there."""
        for member, source in self.members.items():
            (folder / member).mkdir()
            source.stage(folder / member)

    def read(self, part: Part, tally: Tally) -> Iterator[Chunk]:
        member, _, name = part.name.partition("/")
        source, columns = self.members[member], self._columns(member)
        first_id, first_patient = self._first_ids(member)
        own = Tally()
        for chunk in source.read(Part(name, part.files), own):
            stays = _renumbered(chunk.stays, first_id, member, first_patient).with_columns(
                set=pl.concat_str(pl.lit(f"{member}/"), "set")
            )
            events = clean_events(chunk.events, chunk.stays, source.variables, own)
            events = _renumbered(_mapped(events, columns, member, tally), first_id, member)
            outcomes = chunk.outcomes
            if outcomes is not None:
                outcomes = _renumbered(outcomes, first_id, member).with_columns(
                    pl.lit(None).alias(name) for name in self.outcomes if name not in outcomes.columns
                )
            labels = _renumbered(chunk.labels, first_id, member)
            known_after = source.known_after if chunk.known_after is None else chunk.known_after
            yield Chunk(stays, events, labels, outcomes, known_after)
        for rule, entry in own.rules.items():
            by_set = {f"{member}/{name}": count for name, count in entry["by_set"].items()}
            tally.add(rule, entry["description"], by_set)

    def _first_ids(self, member: str) -> tuple[int, int]:
        """What is added to the member's stay ids, and to its patient ids."""
        order = list(self.members)
        hospital = self._configs[member].hospital
        alike = [m for m in order if m == member or (hospital and self._configs[m].hospital == hospital)]
        return order.index(member) * IDS, order.index(alike[0]) * IDS

    def _renaming(self, member: str) -> dict[str, tuple[Renamed, ...]]:
        """The member's variables by the vocabulary's names. Raises ``ValueError`` or ``TypeError``."""
        vocabulary = self._vocabulary
        has = {variable.name: variable for variable in self.members[member].variables}
        file = self._configs[member].renaming
        if file is None:
            _refuse_other_units(member, {name: has[name] for name in has if name in vocabulary}, vocabulary)
            return {name: (Renamed(name=name),) for name in has if name in vocabulary}
        where = f"renaming {file} of the member {member}"
        renaming = {
            key: _entries(given, f"{where}: {key}") for key, given in read_yaml("renaming", file).items()
        }
        for key, entries in renaming.items():
            if key not in vocabulary:
                raise ValueError(f"{where}: {unknown('variable', key, vocabulary)}")
            for entry in entries:
                if entry.name not in has:
                    raise ValueError(f"{where}: {key}: {unknown('variable', entry.name, has)}")
                if has[entry.name].static != vocabulary[key].static:
                    raise ValueError(
                        f"{where}: {key} and {entry.name}: one is measured once a stay, one is not"
                    )
        return renaming

    def _columns(self, member: str) -> Columns:
        position = {variable.name: i for i, variable in enumerate(self.variables)}
        number = {variable.name: i for i, variable in enumerate(self.members[member].variables)}
        columns = Columns(np.full(len(number), -1, np.int16), np.ones(len(number)), np.zeros(len(number)))
        for key, entries in self._renamings[member].items():
            for entry in entries:
                columns.position[number[entry.name]] = position[key]
                columns.factor[number[entry.name]] = entry.factor
                columns.offset[number[entry.name]] = entry.offset
        return columns


def _entries(given: Any, where: str) -> tuple[Renamed, ...]:
    listed = given if isinstance(given, list) else [given]
    for item in listed:
        if not isinstance(item, str | Mapping):
            raise TypeError(
                f"{where}: {item!r} must be a name, or a mapping as in {{name: FiO2, factor: 100}}"
            )
    return tuple(
        make_config(Renamed, {"name": item} if isinstance(item, str) else item, where) for item in listed
    )


def _refuse_other_units(
    member: str, variables: Mapping[str, Variable], vocabulary: Mapping[str, Variable]
) -> None:
    other = [
        f"{name} in {variable.unit or 'no unit'}, not {vocabulary[name].unit or 'no unit'}"
        for name, variable in variables.items()
        if variable.unit != vocabulary[name].unit
    ]
    if other:
        raise ValueError(
            f"the member {member} has other units than the vocabulary ({'; '.join(other)}): give a renaming "
            "with the factors"
        )


def _mapped(events: pl.DataFrame, columns: Columns, member: str, tally: Tally) -> pl.DataFrame:
    """The events under the pool's variables, in its units."""
    number = events["variable"].to_numpy()
    mapped = events.with_columns(
        variable=pl.Series(columns.position[number]),
        value=pl.Series(events["value"].to_numpy() * columns.factor[number] + columns.offset[number]),
        set=pl.lit(member),
    )
    rule = {"not_in_vocabulary": ("an event of a variable that the vocabulary lacks", pl.col("variable") < 0)}
    return sift(mapped, rule, tally).drop("set")


def _renumbered(
    table: pl.DataFrame, first_id: int, member: str, first_patient: int | None = None
) -> pl.DataFrame:
    """Stay ids moved to where no other member's are, and patient ids to where no other hospital's are."""
    first = {"stay_id": first_id} | ({} if first_patient is None else {"patient_id": first_patient})
    for name in first:
        if not table[name].is_between(0, IDS - 1).all():
            raise ValueError(f"the member {member} has a {name} outside 0 to {IDS - 1}: number it anew")
    return table.with_columns(pl.col(name) + start for name, start in first.items())
