"""Which variable of a dataset goes into which column: matched by name, never by position."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from slices.training.data.schema import Variable

log = logging.getLogger(__name__)


class Columns(NamedTuple):
    """The D columns of a batch, and for each variable of the dataset its column, or -1.

    ``static`` and ``summed`` list the columns of static variables and of amounts.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    static: tuple[int, ...]
    summed: tuple[int, ...]
    of_variable: npt.NDArray[np.int64]
    absent: tuple[int, ...] = ()

    @property
    def is_static(self) -> npt.NDArray[np.bool_]:
        """(D,)"""
        return np.isin(np.arange(len(self.names)), self.static)

    @property
    def is_summed(self) -> npt.NDArray[np.bool_]:
        """(D,)"""
        return np.isin(np.arange(len(self.names)), self.summed)


def match_columns(
    variables: Sequence[Variable],
    wanted: Sequence[str] | None = None,
    units: Sequence[str] = (),
    *,
    adapt: bool = False,
    option: str = "training.adapt_variables",
) -> Columns:
    """Columns for the wanted names, in their order; by default the dataset's own.

    Raises ``ValueError`` listing what the dataset lacks and what it has besides, unless ``adapt``: then
    the former is unobserved, the latter dropped, and both are logged. With ``units``, those of ``wanted``,
    it also raises ``ValueError`` listing the variables that the dataset has in another unit. ``option`` is
    what the user sets for ``adapt``.

    >>> match_columns([Variable(name="hr"), Variable(name="age", static=True)], ["age", "hr"]).static
    (0,)
    """
    has = {variable.name: variable for variable in variables}
    names = tuple(has) if wanted is None else tuple(wanted)
    missing = ", ".join(name for name in names if name not in has) or "none"
    extra = ", ".join(name for name in has if name not in names) or "none"
    if set(names) != set(has):
        if not adapt:
            raise ValueError(
                f"the variables of the dataset are not those expected (missing: {missing}; extra: {extra}): "
                f"use theirs, or {option}=true (missing ones unobserved, extra ones dropped)"
            )
        log.warning("variables unobserved in this dataset: %s; dropped from it: %s", missing, extra)
    other = [
        f"{name} in {has[name].unit or 'no unit'}, not {unit or 'no unit'}"
        for name, unit in (zip(names, units, strict=True) if units else ())
        if name in has and has[name].unit != unit
    ]
    if other:
        raise ValueError(f"the dataset has other units than expected ({'; '.join(other)}): convert it first")
    column = {name: i for i, name in enumerate(names)}
    return Columns(
        names=names,
        units=tuple(has[name].unit if name in has else "" for name in names),
        static=tuple(i for i, name in enumerate(names) if name in has and has[name].static),
        summed=tuple(i for i, name in enumerate(names) if name in has and has[name].aggregate == "sum"),
        of_variable=np.array([column.get(name, -1) for name in has], dtype=np.int64),
        absent=tuple(i for i, name in enumerate(names) if name not in has),
    )
