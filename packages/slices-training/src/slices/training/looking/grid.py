"""A stay as a table of hours and variables, to be drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slices.training.evaluation.bootstrap import Array

MOST_COLUMNS = 72
MOST_VARIABLES = 30


@dataclass(frozen=True)
class Grid:
    """Means in bins of time; NaN where there is nothing.

    Attributes:
        values: ``(D, K)``, a row a variable.
        edges: ``(K + 1,)`` hours.
    """

    values: Array
    edges: Array


def bin_edges(times: Array) -> Array:
    """Hours that part the time up to the last of ``times`` into bins of whole hours, not too many."""
    last = float(np.floor(times.max(initial=0.0))) + 1
    width = float(np.ceil(last / MOST_COLUMNS))
    return np.arange(0.0, last + width, width)


def gridded(values: Array, there: Array, times: Array, edges: Array) -> Grid:
    """The means of ``values (T, D)`` where ``there``, in bins of their ``times (T,)``.

    >>> values, times = np.array([[1.0], [3.0], [5.0]]), np.array([0, 0.5, 1])
    >>> gridded(values, np.full((3, 1), True), times, np.arange(3.0)).values
    array([[2., 5.]])
    """
    column = np.searchsorted(edges, times, side="right") - 1
    step, variable = np.nonzero(there)
    total, n = np.zeros((2, values.shape[1], len(edges) - 1))
    np.add.at(total, (variable, column[step]), values[step, variable])
    np.add.at(n, (variable, column[step]), 1)
    return Grid(np.divide(total, n, where=n > 0, out=np.full_like(total, np.nan)), edges)


def most_measured(there: Array) -> Array:
    """The columns of ``(T, D)`` in which something is there, most often first, not too many."""
    n = there.sum(0)
    return np.argsort(-n, kind="stable")[: min(MOST_VARIABLES, int((n > 0).sum()))]
