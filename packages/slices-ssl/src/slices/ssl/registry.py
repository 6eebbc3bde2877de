"""Components by name, and their configs from plain mappings.

A wrong name or key is answered with the nearest right one. This file is the same in
slices-encoders, slices-ssl and slices-heads (a test holds them equal): it is the price of three
packages that install alone.
"""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import functools
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, TypeVar

T = TypeVar("T")


class Registry(dict[str, T]):
    """A dict of components that knows what it holds, and finds those of installed third parties.

    ``group`` is the entry-point group in which other packages announce components. The module an
    entry point names is imported when its name is first asked for; importing it must register it.

    >>> colours = Registry[int]("colour", "demo.colours")
    >>> colours["blue"] = 1
    >>> colours.find("blue")
    1
    >>> colours.find("bleu")
    Traceback (most recent call last):
    ...
    ValueError: unknown colour 'bleu': did you mean 'blue'? There are: blue
    """

    def __init__(self, kind: str, group: str) -> None:
        super().__init__()
        self.kind = kind
        self.group = group

    def __setitem__(self, name: str, component: T) -> None:
        known = self.get(name, component)
        if _origin(known) != _origin(component):  # a notebook's cell may run twice
            raise ValueError(f"the {self.kind} {name!r} is taken by {known!r}: choose another name")
        super().__setitem__(name, component)

    def find(self, name: str) -> T:
        """The component of this name.

        Raises ``ValueError`` with the nearest names where there is none, ``TypeError`` for what is no name.
        """
        if not isinstance(name, str):
            raise TypeError(f"{self.kind}: expected one of {', '.join(self.names())}, got {name!r}")
        if name not in self:
            for point in entry_points(group=self.group, name=name):
                point.load()
        if name not in self:
            raise ValueError(unknown(self.kind, name, self.names()))
        return self[name]

    def names(self, pattern: str = "*") -> list[str]:
        """The sorted names that match a shell pattern, those of installed third parties included."""
        announced = {point.name for point in entry_points(group=self.group)}
        return sorted(name for name in announced | set(self) if fnmatch.fnmatchcase(name, pattern))

    def name_of(self, component: T) -> str:
        """The name a component is registered under. Raises ``ValueError`` where it is not."""
        for name, known in self.items():
            if known is component:
                return name
        raise ValueError(f"{component!r} is not a registered {self.kind}: register it under a name first")


def _origin(component: Any) -> Any:
    if not isinstance(component, type):
        return component
    return component.__module__, component.__qualname__


def unknown(kind: str, name: object, allowed: Iterable[str]) -> str:
    """What to say of a name that is not among the allowed ones: the nearest, and all.

    >>> unknown("option", "mask_ration", ["mask_ratio", "name"])
    "unknown option 'mask_ration': did you mean 'mask_ratio'? There are: mask_ratio, name"
    """
    allowed = sorted(allowed)
    near = difflib.get_close_matches(str(name), allowed, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown {kind} {name!r}: {hint}There are: {', '.join(allowed) or 'none'}"


def make_config(cls: type[T], given: T | Mapping[str, Any], where: str) -> T:
    """The dataclass ``cls`` from itself or from a mapping of its fields; ``where`` names it in errors.

    Raises ``ValueError`` for an unknown key (with the nearest one) or a bad value, ``TypeError`` for
    a value of the wrong type or a missing one. Nothing is dropped and nothing is guessed.
    """
    if isinstance(given, cls):
        return given
    if not isinstance(given, Mapping):
        raise TypeError(f"{where}: expected a mapping or {cls.__name__}, got {type(given).__name__}")
    hints = _hints(cls)  # type: ignore[arg-type]  # a type can be hashed
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    for key in given:
        if key not in fields:
            raise ValueError(f"{where}: {unknown('option', key, fields)}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in given:
            raise TypeError(f"{where}: {name} is missing")
    values = {key: checked(value, hints[key], f"{where}.{key}") for key, value in given.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


@functools.cache  # what is written in quotes is compiled each time otherwise
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def checked(value: Any, hint: Any, where: str) -> Any:
    """``value`` if it is of the type ``hint``; lists become tuples and ints floats where that is meant."""
    origin, arms = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or isinstance(hint, TypeVar):
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arms:
            return None
        return _first_that_fits(value, [arm for arm in arms if arm is not type(None)], hint, where)
    if origin is typing.Literal:
        if value not in arms:
            raise ValueError(f"{where}: {unknown('value', value, map(str, arms))}")
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return make_config(hint, value, where)
    if origin in (tuple, list) and isinstance(value, Sequence) and not isinstance(value, str):
        fixed = origin is tuple and Ellipsis not in arms
        if fixed and len(value) != len(arms):
            raise ValueError(f"{where}: expected {len(arms)} values, got {len(value)}: {list(value)}")
        kinds = arms if fixed else [arms[0]] * len(value)
        pairs = enumerate(zip(value, kinds, strict=True))
        return origin(checked(item, kind, f"{where}[{i}]") for i, (item, kind) in pairs)
    if origin in (dict, Mapping) or hint is dict:
        expected: Any = Mapping
    else:
        expected = origin or hint
    if isinstance(value, Mapping) and origin in (dict, Mapping):
        return {key: checked(item, arms[1], f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError(f"{where}: {value:.3g} is not below 2^63")
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise TypeError(f"{where}: expected {_type_name(hint)}, got {value!r} ({type(value).__name__})")
    return value


def _first_that_fits(value: Any, arms: Sequence[Any], hint: Any, where: str) -> Any:
    if len(arms) == 1:
        return checked(value, arms[0], where)
    for arm in arms:
        try:
            return checked(value, arm, where)
        except (TypeError, ValueError):
            continue
    raise TypeError(f"{where}: expected {_type_name(hint)}, got {value!r} ({type(value).__name__})")


def _type_name(hint: Any) -> str:
    arms = typing.get_args(hint)
    if typing.get_origin(hint) in (list, tuple) and (len(arms) == 1 or Ellipsis in arms):
        return f"a list of {_type_name(arms[0])} (none of them: [])"
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
