"""What a source of stays is, and the registry third parties add theirs to."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import polars as pl

from slices.encoders.registry import Registry, make_config
from slices.training.data.definitions.base import Definition
from slices.training.data.raw import files_under
from slices.training.data.schema import Chunk, Tally, TaskInfo, Variable
from slices.training.ranges import named

SOURCE_REGISTRY: Registry[type[Source]] = Registry("data source", "slices.sources")
SOURCE_CONFIG_REGISTRY: Registry[type[Any]] = Registry("data source", "slices.sources")

S = TypeVar("S", bound="type[Source]")


class Part(NamedTuple):
    """A portion of a source that one process reads, with all of its stays' events and labels.

    ``files`` are all that it is made of: where one changes, a part that was read before is read again.
    """

    name: str
    files: tuple[str, ...] = ()


class Source(ABC):
    """Raw data of one kind, turned into stays, events and labels.

    ``variables``, ``tasks`` and ``outcomes`` are attributes of the class, or properties (cached ones): known
    before the data is read, at most from its metadata. ``version`` goes up whenever the same raw data would
    give another dataset than before. A field of the config that says where the data lies rather than what it
    holds is declared with ``metadata={"content": False}``.
    A source is pickled to the processes that read its parts.
    """

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1
    known_after: float = 0.0
    """Hours after its time that an event is known: of hourly rows, the hour that they sum up."""
    statics_known_after: float = 0.0
    """Hours from admission by which the statics, which lie at 0, are known: nothing is asked before."""
    cut: str | None = None
    """Where its records end although the stay goes on, as in "after 48 hours"; None: where the stay ends."""
    definitions: tuple[Definition, ...] = ()
    """Tasks whose labels are made of events and outcomes, besides those that the source labels itself."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    @abstractmethod
    def variables(self) -> tuple[Variable, ...]:
        """What there are events of."""

    @property
    @abstractmethod
    def tasks(self) -> tuple[TaskInfo, ...]:
        """What it labels itself."""

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The columns of ``OUTCOME_SCHEMA`` that its chunks have, ``stay_id`` apart."""
        return ()

    def parts(self) -> Sequence[Part]:
        """The portions, in the order in which their stays are stored; one by default.

        Raises ``OSError`` or ``ValueError`` where the raw data is missing or cannot be what it should be.
        """
        return (Part("all"),)

    def task_infos(self) -> dict[str, TaskInfo]:
        """The tasks by name, those of the definitions included.

        Raises ``ValueError`` for a definition that has the name of a task of the source.
        """
        tasks = {task.name: task for task in self.tasks}
        for definition in self.definitions:
            if definition.name in tasks:
                raise ValueError(
                    f"data.definitions: {definition.name!r} is a task of the source itself: take another name"
                )
        return tasks | {definition.name: definition.task for definition in self.definitions}

    def stage(self, folder: Path) -> None:
        """Put into an empty folder what the parts share, once before they are read; by default nothing.

        The folder lasts until they are read. Raises what ``read`` raises.
        """
        return

    @abstractmethod
    def read(self, part: Part, tally: Tally) -> Iterator[Chunk]:
        """The stays of a part, in chunks that fit into memory; what is dropped or repaired is tallied."""

    def admissions(self) -> pl.DataFrame | None:
        """``stay_id`` and ``admission``, the timestamp its hours count from; None: it knows only hours."""
        return None

    def places(self) -> dict[str, str]:
        """Where the raw data lies, as absolute paths: the text options that do not decide the content."""
        fields = dataclasses.fields(self.config)
        given = {f.name: getattr(self.config, f.name) for f in fields if not f.metadata.get("content", True)}
        return {name: str(Path(path).resolve()) for name, path in given.items() if isinstance(path, str)}

    def raw_files(self) -> Mapping[str, Sequence[Path]]:
        """The files that it reads, by place, found without reading them: none where they are absent.

        Where their number or their sizes change, a prepared dataset is not the one asked for any more. By
        default all that lie at its places.
        """
        return {name: files_under(Path(place)) for name, place in self.places().items()}

    def options(self) -> dict[str, Any]:
        """What decides the content of the dataset, as plain values."""
        fields = dataclasses.fields(self.config)
        values = {f.name: getattr(self.config, f.name) for f in fields if f.metadata.get("content", True)}
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}


def register_source(name: str, config: type[Any]) -> Callable[[S], S]:
    """Class decorator: register a source and its config dataclass under a name."""

    def register(cls: S) -> S:
        cls.name = name
        SOURCE_REGISTRY[name], SOURCE_CONFIG_REGISTRY[name] = cls, config
        return cls

    return register


def build_source(options: Mapping[str, Any]) -> Source:
    """The source that ``options["name"]`` names, configured by the other keys.

    Raises ``ValueError`` for an unknown name or key, with the nearest one, ``TypeError`` for a value
    of the wrong type.
    """
    name = named(options, "data.source", SOURCE_REGISTRY)
    rest = {key: value for key, value in options.items() if key != "name"}
    config = make_config(SOURCE_CONFIG_REGISTRY.find(name), rest, f"data.source ({name})")
    return SOURCE_REGISTRY[name](config)
