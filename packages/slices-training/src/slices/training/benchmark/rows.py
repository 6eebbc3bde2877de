"""What a row of the table is made of."""

from __future__ import annotations

from typing import NamedTuple

from slices.training.evaluation.bootstrap import Predictions

BASELINE = "baseline"  # the objective of a row that has no encoder
BLEND = "blend"  # that of a row that is the mean of others
NONE = "none"  # that of an encoder that nobody pretrained
RowKey = tuple[float, str, str, str]  # fraction of labels, encoder, objective, way to adapt


class Spent(NamedTuple):
    """What a model cost; a row holds the mean of its runs."""

    seconds: float
    """Of adapting: processor time or, with a GPU, time that passed."""
    shared: float
    """The same of what several cells share: pretraining, or a baseline's features."""
    parameters: float
    """Of encoder and head; 0 where there are none."""
    memory: float
    """GB, the most that the unit's process took until then: of the GPU, or else of the machine."""


class Row(NamedTuple):
    """The runs that one row of the table averages over, in the same order in every row."""

    runs: list[Predictions]
    spent: Spent


def short_name(key: RowKey) -> str:
    """As configurations name a row: what it consists of, or the name of a baseline or blend.

    >>> short_name((1.0, "gru", "mae", "finetune")), short_name((0.1, "lightgbm", "baseline", "baseline"))
    ('gru+mae+finetune', 'lightgbm')
    """
    _, encoder, objective, adaptation = key
    return encoder if objective == adaptation else f"{encoder}+{objective}+{adaptation}"
