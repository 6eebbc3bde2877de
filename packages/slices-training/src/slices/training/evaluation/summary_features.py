"""Summary features of stays in raw units: what trees and logistic regression take for an encoder.

Letters: N stays, T time steps, D variables, V dynamic variables, S statics, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

WHOLE = ("count", "first", "last", "min", "max", "mean", "std", "slope", "hours_since_last")
PER_HALF = ("min", "max")
PER_QUARTER = ("count", "mean")


def summary_features(
    timeseries: Any,
    mask: Any,
    counts: Any,
    times: Any,
    padding_mask: Any,
    static_columns: Sequence[int] = (),
) -> NDArray[np.float32]:
    """A row of features a stay: NaN where the variable was not observed, counts 0.

    Per dynamic variable, over the whole stay: the number of measurements, the first, last, smallest and
    largest value, mean, standard deviation, slope (units per hour), and hours from the last measurement
    to the last real step; over its halves the extremes; over its quarters counts and means. Statics as
    they are. Each stay is on its own, so that features can be computed batch by batch.

    Args:
        timeseries: (N, T, D) values in raw units; where unobserved anything.
        mask: (N, T, D) observed.
        counts: (N, T, D) measurements a cell sums up; means are weighted by it.
        times: (N, T) hours since admission.
        padding_mask: (N, T) real steps.
        static_columns: which of the D are statics.

    Returns:
        (N, F) with the columns that ``feature_names`` names.

    >>> x = torch.tensor([[[80.0], [0.0], [90.0], [0.0]]])
    >>> real = torch.ones(1, 4, dtype=torch.bool)
    >>> times = torch.arange(4.0)[None]
    >>> row = summary_features(x, x > 0, (x > 0).float(), times, real)[0]
    >>> dict(zip(feature_names(["HR"]), row.tolist()))["HR slope"]
    5.0
    """
    real = torch.as_tensor(padding_mask)
    x, seen = torch.as_tensor(timeseries), torch.as_tensor(mask) & real[..., None]
    count = torch.where(seen, torch.as_tensor(counts), 0).float()
    hours = _hours_since_first_step(torch.as_tensor(times).float(), real)
    statics = list(static_columns)
    dynamic = [column for column in range(x.shape[-1]) if column not in set(statics)]
    static = _first(x[..., statics], seen[..., statics])
    x, seen, count = x[..., dynamic].float(), seen[..., dynamic], count[..., dynamic]
    features = [*_of_whole(x, seen, count, hours), *_of_parts(x, seen, count, hours)]
    return torch.cat([*features, static], dim=1).float().numpy()


def feature_names(variables: Sequence[str], static_columns: Sequence[int] = ()) -> list[str]:
    """The names of the columns of ``summary_features``, in order.

    >>> feature_names(["HR", "age"], static_columns=[1])[:3], len(feature_names(["HR", "age"], [1]))
    (['HR count', 'HR first', 'HR last'], 22)
    """
    dynamic = [name for column, name in enumerate(variables) if column not in set(static_columns)]
    halves = [f"{name} of half {part}" for part in (1, 2) for name in PER_HALF]
    quarters = [f"{name} of quarter {part}" for part in (1, 2, 3, 4) for name in PER_QUARTER]
    described = [f"{name} {what}" for what in (*WHOLE, *halves, *quarters) for name in dynamic]
    return described + [variables[column] for column in static_columns]


def _hours_since_first_step(times: Tensor, real: Tensor) -> Tensor:
    """(N, T), 0 at padding."""
    first = torch.where(real, times, torch.inf).amin(1, keepdim=True)
    return torch.where(real, times - first, 0)


def _of_whole(x: Tensor, seen: Tensor, count: Tensor, hours: Tensor) -> list[Tensor]:
    """The features named in ``WHOLE``, each (N, V)."""
    n, time = count.sum(1), hours[..., None]
    x = torch.where(seen, x, 0)
    mean, mean_time = (count * x).sum(1) / n, (count * time).sum(1) / n
    off, off_time = x - mean[:, None], time - mean_time[:, None]
    variance, variance_time = (count * off**2).sum(1) / n, (count * off_time**2).sum(1) / n
    slope = (count * off * off_time).sum(1) / n / variance_time
    slope = torch.where(seen.sum(1) > 1, slope, torch.nan)  # of one step, rounding would be one
    since = hours.amax(1)[:, None] - _last(time.expand_as(x), seen)
    lowest, highest = _extremes(x, seen)
    return [n, _first(x, seen), _last(x, seen), lowest, highest, mean, variance.sqrt(), slope, since]


def _of_parts(x: Tensor, seen: Tensor, count: Tensor, hours: Tensor) -> list[Tensor]:
    """The features named in ``PER_HALF``, half by half, and in ``PER_QUARTER``, quarter by quarter."""
    fraction = hours / hours.amax(1, keepdim=True).clamp(min=1e-6)
    quarter = (4 * fraction).long().clamp(max=3)[..., None]
    features: list[Tensor] = []
    for half in (0, 1):
        features += _extremes(x, seen & (quarter // 2 == half))
    for part in range(4):
        inside = torch.where(quarter == part, count, 0)
        n = inside.sum(1)
        features += [n, torch.where(inside > 0, inside * x, 0).sum(1) / n]
    return features


def _extremes(x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    lowest = torch.where(seen, x, torch.inf).amin(1)
    highest = torch.where(seen, x, -torch.inf).amax(1)
    there = seen.any(1)
    return torch.where(there, lowest, torch.nan), torch.where(there, highest, torch.nan)


def _first(x: Tensor, seen: Tensor) -> Tensor:
    """The value of the first step where it was seen, (N, T, V) -> (N, V)."""
    step = seen.int().argmax(1, keepdim=True)
    return torch.where(seen.any(1), x.gather(1, step)[:, 0], torch.nan)


def _last(x: Tensor, seen: Tensor) -> Tensor:
    return _first(x.flip(1), seen.flip(1))
