"""P values: uniform where nothing differs, as DeLong's where something does; Holm against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slices.training.evaluation.bootstrap import Predictions, metric_draws
from slices.training.evaluation.comparison import bootstrap_p_value, delong_p_value, holm
from slices.training.evaluation.weighted import auroc

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@given(p_values=P_VALUES, level=st.floats(0.001, 0.999))
def test_holm_rejects_what_its_steps_reject(p_values: list[float], level: float) -> None:
    adjusted = holm(p_values)
    steps = sorted(range(len(p_values)), key=lambda k: p_values[k])
    rejected = set()
    for k, index in enumerate(steps):
        if p_values[index] * (len(steps) - k) > level:
            break
        rejected.add(index)
    assert {k for k, p in enumerate(adjusted) if p <= level} == rejected


@given(p_values=P_VALUES)
def test_holm_lies_between_no_correction_and_bonferroni(p_values: list[float]) -> None:
    for p, adjusted in zip(p_values, holm(p_values), strict=True):
        assert p <= adjusted <= min(1.0, p * len(p_values))


def test_what_is_undefined_is_no_comparison() -> None:
    adjusted = holm([0.01, math.nan, 0.04])
    assert adjusted[0] == 0.02 and math.isnan(adjusted[1]) and adjusted[2] == 0.04


def literal_delong(score, other, label) -> float:
    """By the definition: every pair of a positive and a negative row."""
    kernels = []
    for one in (score, other):
        pairs = one[label == 1][:, None] - one[label == 0][None]
        kernels.append((pairs > 0) + 0.5 * (pairs == 0))
    difference = kernels[0] - kernels[1]
    m, n = difference.shape
    variance = difference.mean(1).var(ddof=1) / m + difference.mean(0).var(ddof=1) / n
    return math.erfc(abs(difference.mean()) / math.sqrt(2 * variance))


@pytest.mark.parametrize("seed", range(5))
def test_delong_agrees_with_its_definition(seed: int) -> None:
    generator = np.random.default_rng(seed)
    score, other = generator.integers(0, 9, size=(2, 60)).astype(float)
    label = generator.integers(0, 2, size=60)
    assert delong_p_value(score, other, label) == pytest.approx(literal_delong(score, other, label))
    assert delong_p_value(score, score, label) == 1.0


def compared(seed: int, better: float = 0.0, n: int = 300, n_resamples: int = 500):
    """A fair model, and one that is better or not: the bootstrap's and DeLong's p value."""
    generator = np.random.default_rng(seed)
    label = (generator.random(n) < 0.3).astype(int)
    scores = [gain * label + generator.normal(size=n) for gain in (1.0, 1.0 + better)]
    runs = [Predictions(np.arange(n), np.arange(n), label, score) for score in scores]
    draws = metric_draws({"auroc": auroc}, dict(enumerate(runs)), n_resamples=n_resamples, seed=seed)
    differences = draws[1]["auroc"] - draws[0]["auroc"]
    return bootstrap_p_value(differences[1:]), delong_p_value(scores[1], scores[0], label)


def test_the_bootstrap_agrees_with_delong() -> None:
    pairs = [compared(seed, better=0.25, n_resamples=2000) for seed in range(12)]
    assert max(abs(one - two) for one, two in pairs) < 0.06
    assert min(one for one, _ in pairs) < 0.05


@pytest.mark.slow
def test_models_that_are_equally_good_seldom_differ() -> None:
    rejected = np.mean([compared(seed)[0] < 0.05 for seed in range(150)])
    assert 0.005 < rejected < 0.11
