"""Losses of values, presence and events against slow literal versions."""

from __future__ import annotations

import math

import pytest
import torch

from slices.ssl.losses import (
    BalancedValueLoss,
    EventLoss,
    MarkLoss,
    MaskedValueLoss,
    PresenceLoss,
    balanced_value_loss,
    event_loss,
    mark_loss,
    presence_loss,
    value_loss,
)


@pytest.fixture
def cells():
    generator = torch.Generator().manual_seed(0)
    prediction, target = torch.randn(2, 3, 4, 5, generator=generator)
    where = torch.rand(3, 4, 5, generator=generator) < torch.tensor([0.0, 0.1, 0.3, 0.6, 1.0])
    return prediction, target, where


def test_balanced_values_count_each_variable_once(cells):
    prediction, target, where = cells
    of_variables = []
    for d in range(5):
        errors = ((prediction - target)[..., d][where[..., d]] ** 2).tolist()
        if errors:
            of_variables.append(sum(errors) / len(errors))
    assert len(of_variables) < 5
    assert balanced_value_loss(*cells).item() == pytest.approx(
        sum(of_variables) / len(of_variables), rel=1e-5
    )


def test_presence_is_a_mean_of_binary_cross_entropies(cells):
    logits, _, where = cells
    observed = torch.rand(3, 4, 5) < 0.5
    terms = [
        -math.log(1 / (1 + math.exp(-z if seen else z)))
        for z, seen in zip(logits[where].tolist(), observed[where].tolist(), strict=True)
    ]
    assert presence_loss(logits, observed, where).item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_events_have_the_likelihood_of_their_hazards():
    """By going through the bins of every series."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, generator=generator)
    bin, last = torch.tensor([0, 2, 4, 4, 3, 4]), torch.tensor([3, 3, 3, 1, 3, -1])
    likelihoods = []
    for z, b, followed in zip(logits, bin.tolist(), last.tolist(), strict=True):
        hazard = torch.sigmoid(z).tolist()
        likelihood = 1.0
        for k in range(min(b, followed + 1)):
            likelihood *= 1 - hazard[k]
        if b <= followed:
            likelihood *= hazard[b]
        if followed >= 0:
            likelihoods.append(-math.log(likelihood))
    assert event_loss(logits, bin, last).item() == pytest.approx(
        sum(likelihoods) / len(likelihoods), rel=1e-5
    )


def test_what_was_not_followed_has_no_gradient():
    logits = torch.zeros(2, 4, requires_grad=True)
    event_loss(logits, torch.tensor([4, 4]), torch.tensor([1, -1])).backward()
    assert logits.grad[0, :2].all() and not logits.grad[0, 2:].any() and not logits.grad[1].any()


def test_marks_are_a_cross_entropy():
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    mark, where = (
        torch.tensor([[0, 3, 1], [2, 2, 0]]),
        torch.tensor([[True, False, True], [True, True, False]]),
    )
    terms = [-logits.log_softmax(-1)[i, j, mark[i, j]].item() for i, j in where.nonzero().tolist()]
    assert mark_loss(logits, mark, where).item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_modules_are_the_functions(cells):
    prediction, target, where = cells
    observed, bin = target > 0, torch.randint(0, 6, (3, 4))
    assert torch.equal(MaskedValueLoss(kind="huber")(*cells), value_loss(*cells, kind="huber"))
    assert torch.equal(BalancedValueLoss()(*cells), balanced_value_loss(*cells))
    assert torch.equal(
        PresenceLoss()(prediction, observed, where), presence_loss(prediction, observed, where)
    )
    assert torch.equal(EventLoss()(prediction, bin, bin), event_loss(prediction, bin, bin))
    marks = torch.randint(0, 5, (3, 4)), torch.ones(3, 4, dtype=torch.bool)
    assert torch.equal(MarkLoss()(prediction, *marks), mark_loss(prediction, *marks))
