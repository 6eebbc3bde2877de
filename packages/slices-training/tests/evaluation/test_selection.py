"""Temperatures and thresholds are the best there are, by a search over all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from slices.training.evaluation.calibration import log_loss
from slices.training.evaluation.selection import choose_threshold, fit_temperature, scaled


def draw(n: int = 2000, classes: int = 2, temperature: float = 1.0, seed: int = 0):
    """Probabilities that would be right at ``temperature``, and what happened."""
    generator = np.random.default_rng(seed)
    logit = generator.normal(size=(n, classes))
    right = np.exp(logit) / np.exp(logit).sum(1, keepdims=True)
    said = np.exp(logit * temperature) / np.exp(logit * temperature).sum(1, keepdims=True)
    label = np.array([generator.choice(classes, p=p) for p in right])
    return (said[:, 1], label) if classes == 2 else (said, label)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_temperature_is_found_again_and_none_is_better(classes: int, temperature: float) -> None:
    prob, label = draw(classes=classes, temperature=temperature)
    found = fit_temperature(prob, label)
    assert found == pytest.approx(temperature, rel=0.15)
    ones = np.ones((1, len(label)))
    losses = [log_loss(scaled(prob, t), label, ones)[0] for t in found * np.array([0.98, 1.0, 1.02])]
    assert losses[1] == min(losses)


@given(temperature=st.floats(0.5, 2))
@settings(max_examples=20, deadline=None)
def test_a_temperature_keeps_the_order_and_undoes_itself(temperature: float) -> None:
    prob, _ = draw(100)
    hot = scaled(prob, temperature)
    np.testing.assert_array_equal(np.argsort(hot), np.argsort(prob))
    np.testing.assert_allclose(scaled(hot, 1 / temperature), prob, atol=1e-4)
    np.testing.assert_allclose(scaled(np.stack([1 - prob, prob], 1), temperature)[:, 1], hot, atol=1e-6)


@given(rows=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1)), max_size=30))
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("rule", ["youden", "f1"])
def test_no_threshold_is_better(rule: str, rows: list[tuple[int, int]]) -> None:
    score, label = np.array([*rows, (2, 0), (7, 1)]).T

    def goodness(threshold: float) -> float:
        guess = score >= threshold
        if rule == "f1":
            return float(sk.f1_score(label, guess))
        return float(sk.recall_score(label, guess) + sk.recall_score(label, guess, pos_label=0))

    chosen = choose_threshold(score, label, rule)
    assert goodness(chosen) == pytest.approx(max(goodness(t) for t in score))
    assert chosen in score


@pytest.mark.parametrize("only", [0, 1])
def test_one_class_gives_no_threshold(only: int) -> None:
    with pytest.raises(ValueError, match="needs both"):
        choose_threshold(np.arange(3.0), np.full(3, only), "youden")
