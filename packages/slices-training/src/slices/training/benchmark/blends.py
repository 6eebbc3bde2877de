"""Rows that are means of other rows: of seeds, of encoders and objectives, of networks and trees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from slices.encoders.registry import unknown
from slices.heads import TaskType
from slices.training.baseline.blend import blended, log_odds
from slices.training.benchmark.rows import Row, RowKey, Spent, short_name
from slices.training.evaluation.bootstrap import Predictions, aligned

BLEND = "blend"  # the objective of a row that is one


def check_blends(blends: Mapping[str, Sequence[str]], rows: Sequence[str]) -> None:
    """Raises ``ValueError`` for a blend of nothing, of what there is not, or by a name that is taken."""
    known = list(rows)
    for name, members in blends.items():
        if name in known:
            raise ValueError(f"blends: {name!r} is a row already: take another name")
        if not members:
            raise ValueError(f"blends.{name} is empty: name rows, such as {known[0]}")
        for member in members:
            if member not in known:
                raise ValueError(f"blends.{name}: {unknown('row', member, known)}")
        known.append(name)


def blend_rows(
    rows: Mapping[RowKey, Row], blends: Mapping[str, Sequence[str]], n_seeds: int, task_type: TaskType
) -> dict[RowKey, Row]:
    """A row for each blend and fraction of labels; a blend may be a member of those after it.

    A blend is the mean over its members and over all seeds of each, on the scale of log-odds. It stands for
    every seed, as a baseline does, and costs what all of its models cost.
    """
    found: dict[RowKey, Row] = {}
    for fraction in dict.fromkeys(key[0] for key in rows):
        known = {short_name(key): row for key, row in rows.items() if key[0] == fraction}
        for name, members in blends.items():
            known[name] = _mean([known[member] for member in members], n_seeds, task_type)
            found[fraction, name, BLEND, BLEND] = known[name]
    return found


def _mean(members: Sequence[Row], n_seeds: int, task_type: TaskType) -> Row:
    """Runs are in order of their seeds: the k-th of one seed is of the same stays as the k-th of another."""
    n_runs = len(members[0].runs) // n_seeds
    runs = [
        _mean_of([row.runs[seed * n_runs + k] for row in members for seed in range(n_seeds)], task_type)
        for k in range(n_runs)
    ]
    seconds, shared, parameters, memory = zip(*(row.spent for row in members), strict=True)
    sums = (n_seeds * sum(part) for part in (seconds, shared, parameters))
    spent = Spent._make((*sums, max(memory)))
    return Row(runs * n_seeds, spent)


def _mean_of(runs: Sequence[Predictions], task_type: TaskType) -> Predictions:
    first = runs[0]
    scores = log_odds([other.prediction for other in _in_one_order(runs)], task_type)
    weights: Tensor = torch.full((len(runs),), 1 / len(runs), dtype=torch.float64)
    mean = blended(scores, weights, task_type).numpy().reshape(first.prediction.shape)
    return aligned(first, first)[0]._replace(prediction=mean)


def _in_one_order(runs: Sequence[Predictions]) -> Iterator[Predictions]:
    """By their rows; raises as ``aligned`` does where they are not of the same ones."""
    return (aligned(runs[0], other)[1] for other in runs)
