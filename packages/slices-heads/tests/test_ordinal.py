"""Ordered classes: proportional odds against scipy's logistic distribution, and their properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import logistic
from sklearn.metrics import log_loss

from slices.heads import TaskHeadConfig, build_task_head, build_task_loss, ordinal_log_probs
from slices.heads.ordinal import Thresholds

CONFIG = {"task_type": "ordinal", "n_classes": 5, "input_dim": 8, "dropout": 0.0}


def test_probabilities_are_slices_of_a_logistic_distribution():
    score, threshold = 3 * torch.randn(20), torch.tensor([-2.0, -0.5, 0.1, 4.0])
    edges = np.array([-np.inf, *threshold.tolist(), np.inf])
    expected = [np.diff(logistic.cdf(edges, loc=s)) for s in score.double().tolist()]
    got = ordinal_log_probs(score, threshold).exp().numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-7)


def test_the_loss_is_the_likelihood():
    head, loss = build_task_head(CONFIG), build_task_loss(CONFIG)
    outputs, label = head(torch.randn(20, 8)), torch.randint(5, (20,))
    probs = outputs["logits"].detach().double().softmax(-1)
    expected = log_loss(label.numpy(), probs.numpy(), labels=range(5))
    assert loss(outputs["logits"], label).item() == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(outputs["logits"].exp(), outputs["probs"])


@given(
    scores=st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=6),
    gaps=st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3),
)
@settings(max_examples=50, deadline=None)
def test_monotone_whatever_is_learnt(scores, gaps):
    """Probabilities sum to 1, thresholds ascend, and a higher score makes no class above less likely."""
    thresholds = Thresholds(5)
    with torch.no_grad():
        thresholds.raw_gaps.copy_(torch.tensor(gaps))
    assert bool((thresholds().diff() > 0).all())
    log_probs = ordinal_log_probs(torch.tensor(sorted(scores)), thresholds())
    assert log_probs.isfinite().all()
    probs = log_probs.exp()
    torch.testing.assert_close(probs.sum(-1), torch.ones(len(scores)))
    above = probs.flip(-1).cumsum(-1).flip(-1)
    assert bool((above.diff(dim=0) >= -1e-5).all())


def test_all_classes_are_as_likely_at_first():
    probs = ordinal_log_probs(torch.zeros(1), Thresholds(7)()).exp()
    torch.testing.assert_close(probs, torch.full((1, 7), 1 / 7))


def test_turning_the_order_round_turns_the_score_round():
    score, threshold = torch.randn(6), torch.tensor([-1.0, 0.5, 2.0])
    turned = ordinal_log_probs(-score, -threshold.flip(0))
    torch.testing.assert_close(ordinal_log_probs(score, threshold).flip(-1), turned)


def test_it_learns_the_frequencies_of_the_classes():
    """With nothing to see, the likelihood is greatest at the labels' own frequencies."""
    torch.manual_seed(0)
    label = torch.tensor([0] * 10 + [1] * 50 + [2] * 5 + [3] * 30 + [4] * 5)
    head, loss = build_task_head(CONFIG), build_task_loss(CONFIG)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    nothing = torch.zeros(1, 8)
    for _ in range(600):
        optimizer.zero_grad()
        loss(head(nothing)["logits"].expand(100, -1), label).backward()
        optimizer.step()
    torch.testing.assert_close(head(nothing)["probs"][0], label.bincount() / 100, atol=5e-3, rtol=0)


def test_one_direction_and_one_threshold_a_step():
    """Fewer weights than classes: that is what the order buys."""
    head = build_task_head(TaskHeadConfig(**CONFIG))
    assert head.output_dim == 1
    assert sum(parameter.numel() for parameter in head.parameters()) == 8 + 1 + 3


def test_classes_that_are_none_are_refused():
    with pytest.raises(ValueError, match="label 5 is no class"):
        build_task_loss(CONFIG)(build_task_head(CONFIG)(torch.randn(2, 8))["logits"], torch.tensor([0, 5]))
