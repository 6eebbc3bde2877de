"""What a source of stays is, and the registry third parties add theirs to."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

from slices.encoders.registry import Registry, make_config
from slices.training.data.schema import Chunk, Tally, TaskInfo, Variable

SOURCE_REGISTRY: Registry[type[Source]] = Registry("data source", "slices.sources")
SOURCE_CONFIG_REGISTRY: Registry[type[Any]] = Registry("data source", "slices.sources")

S = TypeVar("S", bound="type[Source]")


class Source(ABC):
    """Raw data of one kind, turned into stays, events and labels.

    ``variables`` and ``tasks`` are known without touching the raw data. ``version`` goes up whenever
    the same raw data would give another dataset than before. A field of the config that says where
    the data lies rather than what it holds is declared with ``metadata={"content": False}``.
    """

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1
    variables: tuple[Variable, ...]
    tasks: tuple[TaskInfo, ...]

    def __init__(self, config: Any) -> None:
        self.config = config

    def task_infos(self) -> dict[str, TaskInfo]:
        """The tasks by name."""
        return {task.name: task for task in self.tasks}

    @abstractmethod
    def read(self, tally: Tally) -> Iterator[Chunk]:
        """The stays, in chunks that fit into memory; what is dropped or repaired goes to the tally."""

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
    if "name" not in options:
        raise ValueError(f"data.source: name is missing. There are: {', '.join(SOURCE_REGISTRY.names())}")
    name = options["name"]
    source = SOURCE_REGISTRY.find(name)
    rest = {key: value for key, value in options.items() if key != "name"}
    return source(make_config(SOURCE_CONFIG_REGISTRY.find(name), rest, f"data.source ({name})"))
