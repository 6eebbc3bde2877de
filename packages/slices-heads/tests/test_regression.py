"""Losses of a regression: against torch, scikit-learn and scipy; quantiles in their order."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import mean_pinball_loss
from torch.nn import functional as F

from slices.heads import (
    TaskHeadConfig,
    build_task_head,
    build_task_loss,
    gaussian_loss,
    huber_loss,
    quantile_loss,
)
from slices.heads.links import QuantileLink

QUANTILES = (0.1, 0.25, 0.5, 0.9)


def test_huber_equals_torch_and_the_literal_version():
    prediction, label = 3 * torch.randn(40, 2), torch.randn(40, 2)
    for delta in (0.5, 1.0, 4.0):
        value = huber_loss(prediction, label, huber_delta=delta)
        torch.testing.assert_close(value, F.huber_loss(prediction, label, delta=delta))
        errors = [abs(e) for e in (prediction - label).flatten().tolist()]
        literal = [e * e / 2 if e <= delta else delta * (e - delta / 2) for e in errors]
        assert value.item() == pytest.approx(sum(literal) / len(literal), rel=1e-5)


def test_gaussian_equals_torch_and_scipy():
    logits, label = torch.randn(40, 3, 2), torch.randn(40, 3)
    label[2, 1] = math.nan
    there = label.isfinite()
    mean, variance = logits[..., 0], logits[..., 1].exp()
    value = gaussian_loss(logits, label)
    expected = F.gaussian_nll_loss(mean[there], label[there], variance[there], full=True)
    torch.testing.assert_close(value, expected)
    density = norm.logpdf(label[there], mean[there], variance[there].sqrt())
    assert value.item() == pytest.approx(-density.mean(), rel=1e-5)


def test_quantiles_equal_sklearn_and_the_literal_version():
    logits, label = torch.randn(40, 1, 4), torch.randn(40)
    value = quantile_loss(logits, label, quantiles=torch.tensor(QUANTILES))
    known = [mean_pinball_loss(label, logits[:, 0, i], alpha=q) for i, q in enumerate(QUANTILES)]
    assert value.item() == pytest.approx(sum(known) / 4, rel=1e-5)
    literal = 0.0
    for row, y in zip(logits[:, 0].tolist(), label.tolist(), strict=True):
        for prediction, q in zip(row, QUANTILES, strict=True):
            literal += q * (y - prediction) if y > prediction else (1 - q) * (prediction - y)
    assert value.item() == pytest.approx(literal / 160, rel=1e-5)


@given(seed=st.integers(0, 1000), size=st.floats(0.01, 50))
@settings(max_examples=30, deadline=None)
def test_quantiles_never_cross_and_the_median_is_the_prediction(seed, size):
    link = QuantileLink(
        TaskHeadConfig(task_type="regression", loss="quantile", quantiles=QUANTILES, n_classes=2)
    )
    raw = size * torch.randn(10, link.width, generator=torch.Generator().manual_seed(seed))
    outputs = link(raw)
    assert bool((outputs["logits"].diff() >= 0).all())
    assert torch.equal(outputs["probs"], outputs["logits"][..., 2])


def test_a_gaussian_says_its_mean_and_scale_and_a_met_label_does_not_make_it_infinite():
    head = build_task_head(
        {"task_type": "regression", "loss": "gaussian", "n_classes": 3, "input_dim": 4}
    ).eval()
    outputs = head(torch.randn(5, 4))
    assert outputs["probs"].shape == outputs["scale"].shape == (5, 3)
    torch.testing.assert_close(outputs["scale"], (outputs["logits"][..., 1] / 2).exp())
    assert torch.equal(outputs["probs"], outputs["logits"][..., 0])
    sure = head.outputs(torch.full((5, 6), -1e4))
    torch.testing.assert_close(sure["scale"], torch.full((5, 3), 1e-3))


@pytest.mark.parametrize("loss", ["mse", "huber", "gaussian", "quantile"])
def test_one_target_takes_labels_with_and_without_the_last_axis(loss):
    config = {"task_type": "regression", "loss": loss, "input_dim": 4}
    logits = build_task_head(config)(torch.randn(3, 5, 4))["logits"]
    label = torch.randn(3, 5)
    label[1, 2] = math.nan
    value = build_task_loss(config)
    torch.testing.assert_close(value(logits, label), value(logits, label[..., None]))


@pytest.mark.parametrize(("loss", "tolerance"), [("gaussian", 0.05), ("quantile", 0.1)])
def test_a_constant_learns_the_distribution(loss, tolerance):
    """Trained on draws from one Gaussian, the head recovers it."""
    torch.manual_seed(0)
    label = 2 + 3 * torch.randn(4000)
    config = {"task_type": "regression", "loss": loss, "quantiles": QUANTILES, "input_dim": 1, "dropout": 0.0}
    head, measure = build_task_head(config), build_task_loss(config)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    nothing = torch.zeros(1, 1)
    for _ in range(500):
        optimizer.zero_grad()
        measure(head(nothing)["logits"].expand(4000, -1, -1), label).backward()
        optimizer.step()
    outputs = head(nothing)
    if loss == "gaussian":
        got = torch.stack([outputs["probs"], outputs["scale"]]).flatten()
        expected = torch.stack([label.mean(), label.std()])
    else:
        got, expected = outputs["logits"].flatten(), label.quantile(torch.tensor(QUANTILES))
    torch.testing.assert_close(got, expected, atol=tolerance, rtol=0)
