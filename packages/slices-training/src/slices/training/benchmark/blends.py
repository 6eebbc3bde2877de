"""Rows that are means of other rows: of seeds, of encoders and objectives, of networks and trees."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

from slices.encoders.registry import unknown
from slices.heads import TaskType
from slices.training.baseline.blend import mean_prediction
from slices.training.benchmark.rows import BASELINE, BLEND, Row, RowKey, Spent, short_name
from slices.training.evaluation.bootstrap import Predictions, aligned

log = logging.getLogger(__name__)


def check_blends(blends: Mapping[str, Sequence[str]], rows: Sequence[str], taken: Sequence[str] = ()) -> None:
    """Raises ``ValueError`` for a blend of nothing, of what there is not, or by a name that is taken."""
    known = list(rows)
    for name, members in blends.items():
        if name in known or name in taken:
            raise ValueError(f"blends: {name!r} names something else already: take another name")
        if not members:
            raise ValueError(f"blends.{name} is empty: name rows, as encoder+objective+adaptation")
        for member in members:
            if member not in known:
                raise ValueError(f"blends.{name}: {unknown('row', member, known)}")
        known.append(name)


def blend_rows(
    rows: Mapping[RowKey, Row], blends: Mapping[str, Sequence[str]], n_seeds: int, task_type: TaskType
) -> dict[RowKey, Row]:
    """A row for each blend and each fraction that all its members have; it may be a member of those after it.

    A blend is the mean over its members and over all seeds of each, on the scale of log-odds. It stands for
    every seed, as a baseline does, and costs what all of its models cost, what they share once.
    """
    found: dict[RowKey, Row] = {}
    for fraction in dict.fromkeys(key[0] for key in rows):
        known = {short_name(key): row for key, row in rows.items() if key[0] == fraction}
        for name, members in blends.items():
            if lacking := [member for member in members if member not in known]:
                log.info("blend %s: none at %g, where there is no %s", name, fraction, ", ".join(lacking))
                continue
            runs = _mean([known[member].runs for member in members], n_seeds, task_type)
            models = models_of(name, blends)
            own = {key: row for key, row in rows.items() if key[0] == fraction and short_name(key) in models}
            known[name] = Row(runs, _spent(own, n_seeds))
            found[fraction, name, BLEND, BLEND] = known[name]
    return found


def models_of(name: str, blends: Mapping[str, Sequence[str]]) -> set[str]:
    """The rows that a blend, and those within it, consist of.

    >>> sorted(models_of("b", {"a": ["gru+mae+probe"], "b": ["a", "lightgbm"]}))
    ['gru+mae+probe', 'lightgbm']
    """
    return set().union(*(models_of(part, blends) for part in blends[name])) if name in blends else {name}


def _spent(models: Mapping[RowKey, Row], n_seeds: int) -> Spent:
    """A baseline is fitted once; what is shared is that of an encoder and objective, or of a baseline."""
    times = {key: 1 if key[2] == BASELINE else n_seeds for key in models}
    seconds = sum(times[key] * row.spent.seconds for key, row in models.items())
    parameters = sum(times[key] * row.spent.parameters for key, row in models.items())
    shared = {key[1:3]: times[key] * row.spent.shared for key, row in models.items()}
    memory = max(row.spent.memory for row in models.values())
    return Spent(seconds, sum(shared.values()), parameters, memory)


def _mean(members: Sequence[Sequence[Predictions]], n_seeds: int, task_type: TaskType) -> list[Predictions]:
    """Runs are in order of their seeds: the k-th of one seed is of the same stays as the k-th of another."""
    n_runs = len(members[0]) // n_seeds
    of_each = (
        [runs[seed * n_runs + k] for runs in members for seed in range(n_seeds)] for k in range(n_runs)
    )
    return [_mean_of(runs, task_type) for runs in of_each] * n_seeds


def _mean_of(runs: Sequence[Predictions], task_type: TaskType) -> Predictions:
    first = runs[0]
    mean = mean_prediction([other.prediction for other in _in_one_order(runs)], task_type)
    return aligned(first, first)[0]._replace(prediction=mean.numpy().reshape(first.prediction.shape))


def _in_one_order(runs: Sequence[Predictions]) -> Iterator[Predictions]:
    """By their rows; raises as ``aligned`` does where they are not of the same ones."""
    return (aligned(runs[0], other)[1] for other in runs)
