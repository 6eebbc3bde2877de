"""Discrete survival: the likelihood in plain numbers, life tables as its optimum, and its properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from slices.heads import cumulative_incidence, survival_function, survival_label, survival_loss

K, R = 4, 2


def draw(n: int, seed: int = 0, risks: int = R) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    event = torch.randint(risks + 1, (n,), generator=generator)
    interval = torch.randint(K, (n,), generator=generator)
    interval = torch.where(event == 0, interval + torch.randint(2, (n,), generator=generator), interval)
    return torch.stack([interval, event], -1).float()


def literal(logits: Tensor, label: Tensor) -> float:
    """One stay and one interval after the other."""
    losses = []
    for table, (interval, event) in zip(logits.double().numpy(), label.tolist(), strict=True):
        if math.isnan(interval) or math.isnan(event):
            continue
        odds = np.exp(table)
        hazard = odds / (1 + odds.sum(-1, keepdims=True))
        likelihood = 1.0
        for k in range(int(interval)):
            likelihood *= 1 - hazard[k].sum()
        if event:
            likelihood *= hazard[int(interval), int(event) - 1]
        losses.append(-np.log(likelihood))
    return float(np.mean(losses))


def test_equals_the_literal_version():
    logits, label = torch.randn(30, K, R), draw(30)
    label[3, 0] = label[5, 1] = math.nan
    assert survival_loss(logits, label).item() == pytest.approx(literal(logits, label), rel=1e-5)


def test_one_risk_is_a_logistic_regression_on_the_intervals_at_risk():
    logits, label = torch.randn(30, K, 1), draw(30, risks=1)
    steps = torch.arange(K)
    at_risk = steps < (label.sum(-1, keepdim=True))  # an event's interval counts, a censored one's does not
    struck = ((steps == label[:, :1]) & (label[:, 1:] == 1)).float()
    total = F.binary_cross_entropy_with_logits(logits[..., 0][at_risk], struck[at_risk], reduction="sum")
    torch.testing.assert_close(survival_loss(logits, label), total / 30)


def test_it_is_the_likelihood_of_what_is_predicted():
    """An event has the probability that the incidence rises by; a censored stay that of surviving."""
    logits, label = torch.randn(30, K, R), draw(30)
    rise = cumulative_incidence(logits).diff(dim=-2, prepend=torch.zeros(30, 1, R))
    survival = F.pad(survival_function(logits), (1, 0), value=1.0)
    losses = [
        -(rise[i, k, e - 1] if e else survival[i, k]).log() for i, (k, e) in enumerate(label.int().tolist())
    ]
    torch.testing.assert_close(survival_loss(logits, label), torch.stack(losses).mean())


def test_the_best_constant_is_the_life_table():
    """Events over stays at risk, interval by interval: the Kaplan-Meier and Aalen-Johansen estimates."""
    label = draw(400, seed=3).int()
    hazards = torch.zeros(K, R)
    incidence, survival = torch.zeros(K, R), 1.0
    for k in range(K):
        at_risk = ((label[:, 0] > k) | ((label[:, 0] == k) & (label[:, 1] > 0))).sum()
        for r in range(R):
            hazards[k, r] = ((label[:, 0] == k) & (label[:, 1] == r + 1)).sum() / at_risk
        incidence[k] = (incidence[k - 1] if k else 0) + survival * hazards[k]
        survival *= 1 - hazards[k].sum()
    logits = (hazards / (1 - hazards.sum(-1, keepdim=True))).log().requires_grad_(True)
    survival_loss(logits.expand(400, K, R), label).backward()
    torch.testing.assert_close(logits.grad, torch.zeros(K, R), atol=1e-6, rtol=0)
    torch.testing.assert_close(cumulative_incidence(logits), incidence)
    torch.testing.assert_close(survival_function(logits)[-1], survival)


@given(seed=st.integers(0, 1000), size=st.floats(0.01, 100), risks=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_survival_falls_incidence_rises_and_they_sum_to_one(seed, size, risks):
    logits = size * torch.randn(5, 6, risks, generator=torch.Generator().manual_seed(seed))
    survival, incidence = survival_function(logits), cumulative_incidence(logits)
    assert bool((survival.diff(dim=-1) <= 0).all()) and bool((incidence.diff(dim=-2) >= 0).all())
    assert bool(((survival >= 0) & (survival <= 1)).all())
    torch.testing.assert_close(survival + incidence.sum(-1), torch.ones(5, 6))


def test_risks_are_alike():
    logits, label = torch.randn(30, K, R), draw(30)
    swapped = label.clone()
    swapped[:, 1] = torch.where(label[:, 1] > 0, R + 1 - label[:, 1], 0)
    torch.testing.assert_close(survival_loss(logits, label), survival_loss(logits.flip(-1), swapped))


def test_half_a_label_is_no_label():
    logits, label = torch.randn(6, K, R), draw(6)
    mask = torch.ones(6, 2, dtype=torch.bool)
    mask[1, 0] = mask[4, 1] = False
    there = mask.all(-1)
    torch.testing.assert_close(survival_loss(logits, label, mask), survival_loss(logits[there], label[there]))


def test_what_is_not_known_gets_no_gradient():
    logits = torch.randn(2, K, R, requires_grad=True)
    survival_loss(logits, torch.tensor([[2, 0], [1, 2]])).backward()
    touched = (logits.grad != 0).any(-1)
    assert touched.tolist() == [[True, True, False, False], [True, True, False, False]]


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ([4, 1], "label 4 is no interval of an event: there are 4, 0 to 3"),
        ([5, 0], "label 5 is no interval: there are 5, 0 to 4"),
        ([-1, 0], "label -1 is no interval"),
        ([1, 3], "label 3 is no event: there are 3, 0 to 2"),
    ],
)
def test_labels_that_are_none_are_refused_by_name(label, said):
    with pytest.raises(ValueError, match=said):
        survival_loss(torch.zeros(1, K, R), torch.tensor([label]))
    survival_loss(torch.zeros(1, K, R), torch.tensor([label]), torch.zeros(1, 2, dtype=torch.bool))


@given(
    time=st.floats(0, 100, width=32),
    event=st.integers(0, R),
    width=st.sampled_from([1.0, 6.0, 24.0]),
)
@settings(max_examples=100, deadline=None)
def test_labels_from_times(time, event, width):
    ends = width * torch.arange(1, K + 1)
    interval, kind = survival_label(torch.tensor(time), torch.tensor(event), ends).tolist()
    if event and time <= K * width:
        assert kind == event
        assert interval * width < time <= (interval + 1) * width or (interval == 0 and time == 0)
    else:  # so many intervals are over by then
        assert kind == 0
        assert interval == min(K, math.floor(time / width))


def test_missing_times_and_events_are_missing_labels():
    nan = math.nan
    label = survival_label(torch.tensor([nan, 3.0]), torch.tensor([1.0, nan]), torch.tensor([5.0]))
    assert label.isnan().all()
