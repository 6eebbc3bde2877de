"""What a row of the table is made of."""

from __future__ import annotations

from typing import NamedTuple

from slices.training.evaluation.bootstrap import Predictions

RowKey = tuple[float, str, str, str]  # fraction of labels, encoder, objective, way to adapt


class Row(NamedTuple):
    """The runs that one row of the table averages over, in the same order in every row."""

    runs: list[Predictions]
    seconds: float
    shared: float


def short_name(key: RowKey) -> str:
    """As configurations name a row: what it consists of, or the name of a baseline or blend.

    >>> short_name((1.0, "gru", "mae", "finetune")), short_name((0.1, "lightgbm", "baseline", "baseline"))
    ('gru+mae+finetune', 'lightgbm')
    """
    _, encoder, objective, adaptation = key
    return encoder if objective == adaptation else f"{encoder}+{objective}+{adaptation}"
