"""Summary features against a literal version, one stay and one variable at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from slices.training.evaluation.summary_features import feature_names, summary_features

VARIABLES = ["HR", "age", "MAP", "sex"]
STATIC = (1, 3)


def draw(n: int = 6, n_steps: int = 20, seed: int = 0) -> dict[str, Tensor]:
    """Measured timestamps, padding at the end and in the middle, variables never observed."""
    generator = torch.Generator().manual_seed(seed)
    real = torch.rand(n, n_steps, generator=generator) < 0.8
    real[:, 0] = True
    mask = (torch.rand(n, n_steps, 4, generator=generator) < 0.4) & real[..., None]
    mask[0, :, 0] = False
    mask[1, :, 2] = torch.arange(n_steps) == 5
    real[1, 5] = True
    mask[..., list(STATIC)] = torch.arange(n_steps)[:, None] == 0
    mask[2, 0, 1] = False
    mask[3, :, 0] = torch.arange(n_steps) == 7  # once, though its cell may sum up several
    real[3, 7] = True
    times = 3 + torch.rand(n, n_steps, generator=generator).cumsum(1)
    return {
        "timeseries": 80 + 10 * torch.randn(n, n_steps, 4, generator=generator),
        "mask": mask,
        "counts": torch.randint(1, 4, mask.shape, generator=generator) * mask.float(),
        "times": torch.where(real, times, 999.0),
        "padding_mask": real,
    }


def literal(batch: dict[str, Tensor], stay: int) -> dict[str, float]:
    """One stay, in plain numpy."""
    x, mask, counts, times, real = (batch[key][stay].numpy() for key in batch)
    hours = times[real] - times[real].min()
    part = np.minimum((4 * hours / hours.max()).astype(int), 3)
    row: dict[str, float] = {}
    for column, name in enumerate(VARIABLES):
        seen = mask[real, column]
        value, n, t, quarter = x[real, column][seen], counts[real, column][seen], hours[seen], part[seen]
        if column in STATIC:
            row[name] = value[0] if len(value) else math.nan
            continue
        row[f"{name} count"] = n.sum()
        for half in (1, 2):
            inside = value[quarter // 2 == half - 1]
            row[f"{name} min of half {half}"] = inside.min() if len(inside) else math.nan
            row[f"{name} max of half {half}"] = inside.max() if len(inside) else math.nan
        for k in range(4):
            row[f"{name} count of quarter {k + 1}"] = n[quarter == k].sum()
            inside, weight = value[quarter == k], n[quarter == k]
            row[f"{name} mean of quarter {k + 1}"] = (
                np.average(inside, weights=weight) if len(inside) else math.nan
            )
        if len(value):
            mean = np.average(value, weights=n)
            slope = np.polyfit(t, value, 1, w=np.sqrt(n))[0] if len(value) > 1 else math.nan
            described = (value[0], value[-1], value.min(), value.max(), mean)
            std = np.sqrt(np.average((value - mean) ** 2, weights=n))
            described = (*described, std, slope, hours.max() - t[-1])
        else:
            described = (math.nan,) * 8
        names = ("first", "last", "min", "max", "mean", "std", "slope", "hours_since_last")
        row |= {f"{name} {what}": number for what, number in zip(names, described, strict=True)}
    return row


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_literal_version(seed):
    batch = draw(seed=seed)
    features = summary_features(**batch, static_columns=STATIC)
    names = feature_names(VARIABLES, STATIC)
    assert (
        features.dtype == np.float32 and features.shape == (6, len(names)) and len(set(names)) == len(names)
    )
    for stay, row in enumerate(features):
        expected = literal(batch, stay)
        np.testing.assert_allclose(row, [expected[name] for name in names], rtol=1e-3, atol=1e-4)


def test_neither_hidden_values_nor_padding_nor_the_other_stays_matter():
    batch = draw()
    expected = summary_features(**batch, static_columns=STATIC)
    changed = {**batch, "timeseries": batch["timeseries"].masked_fill(~batch["mask"], math.nan)}
    np.testing.assert_array_equal(summary_features(**changed, static_columns=STATIC), expected)
    padded = {key: torch.cat([part, torch.zeros_like(part[:, :3])], dim=1) for key, part in batch.items()}
    np.testing.assert_allclose(
        summary_features(**padded, static_columns=STATIC), expected, rtol=1e-5, atol=1e-5
    )
    alone = {key: part[2:3] for key, part in batch.items()}
    np.testing.assert_allclose(
        summary_features(**alone, static_columns=STATIC), expected[2:3], rtol=1e-5, atol=1e-5
    )


def test_numpy_arrays_will_do():
    batch = draw()
    arrays = {key: part.numpy() for key, part in batch.items()}
    np.testing.assert_array_equal(
        summary_features(**arrays, static_columns=STATIC), summary_features(**batch, static_columns=STATIC)
    )


def test_a_stay_without_observations_has_counts_of_zero_and_nothing_else():
    batch = draw()
    batch["mask"] = torch.zeros_like(batch["mask"])
    row = dict(
        zip(
            feature_names(VARIABLES, STATIC), summary_features(**batch, static_columns=STATIC)[0], strict=True
        )
    )
    assert all(value == 0 if "count" in name else math.isnan(value) for name, value in row.items())
