"""Supervised, neighbourhood and hierarchical contrast against slow literal versions of their papers."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from slices.ssl.losses import (
    HierarchicalLoss,
    NeighbourhoodLoss,
    SupervisedContrastiveLoss,
    hierarchical_loss,
    neighbourhood_loss,
    nt_xent,
    supervised_contrastive_loss,
    temporal_nt_xent,
)
from slices.ssl.losses import hierarchical as hierarchical_module
from slices.ssl.losses.contrast import instance_contrast

B, P = 7, 5


@pytest.fixture
def views():
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(B, P, generator=generator)
    return first, first + 0.5 * torch.randn(B, P, generator=generator)


def log_share(i, chosen, among, rows, temperature):
    """log of the share that the chosen have of the sum over ``among`` of exp(cosine with i / temperature)."""

    def part(k):
        return math.exp(F.cosine_similarity(rows[i], rows[k], dim=0).item() / temperature)

    return math.log(sum(part(k) for k in chosen) / sum(part(k) for k in among))


def literal_supervised(first, second, label, temperature):
    """Khosla et al. (2020), equation 2."""
    rows, n = [*first, *second], len(first)
    classes = [*label, *label]
    total = 0.0
    for i in range(2 * n):
        others = [k for k in range(2 * n) if k != i]
        positives = [
            k for k in others if k % n == i % n or (classes[i] is not None and classes[k] == classes[i])
        ]
        total -= sum(log_share(i, [p], others, rows, temperature) for p in positives) / len(positives)
    return total / (2 * n)


def test_supervised_contrast_is_equation_2(views):
    label = [0, 1, 1, None, 0, 2, None]
    known = torch.tensor([one is not None for one in label])
    classes = torch.tensor([-1 if one is None else one for one in label])
    found = supervised_contrastive_loss(*views, classes, known, temperature=0.3)
    assert found.item() == pytest.approx(literal_supervised(*views, label, 0.3), rel=1e-5)


def test_supervised_contrast_without_labels_is_nt_xent(views):
    nobody = torch.zeros(B, dtype=torch.bool)
    assert torch.allclose(supervised_contrastive_loss(*views, torch.zeros(B), nobody), nt_xent(*views))


def test_supervised_contrast_leaves_out_what_is_not_valid(views):
    valid = torch.tensor([True, True, False, True, True, False, True])
    label = torch.tensor([0, 1, 1, 0, 1, 0, 1])
    few = supervised_contrastive_loss(*(view[valid] for view in views), label[valid])
    assert torch.allclose(supervised_contrastive_loss(*views, label, valid=valid), few)


def literal_neighbourhood(first, second, stay, time, hours, alpha, temperature):
    """Yeche et al. (2021), equations 1 to 4."""
    rows, n = [*first, *second], len(first)
    alignment = discrimination = 0.0
    for i in range(2 * n):
        others = [k for k in range(2 * n) if k != i]
        near = [
            k
            for k in others
            if (stay[k % n] == stay[i % n] and abs(time[k % n] - time[i % n]) < hours) or k % n == i % n
        ]
        alignment -= log_share(i, near, others, rows, temperature)
        discrimination -= log_share(i, [(i + n) % (2 * n)], near, rows, temperature)
    return (alpha * alignment + (1 - alpha) * discrimination) / (2 * n)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_neighbourhood_contrast_is_the_papers(alpha, views):
    stay, time = [0, 0, 0, 1, 1, 2, 2], [0.0, 5.0, 20.0, 3.0, 12.0, 7.0, 8.0]
    found = neighbourhood_loss(*views, torch.tensor(stay), torch.tensor(time), None, 8.0, alpha, 0.3)
    assert found.item() == pytest.approx(literal_neighbourhood(*views, stay, time, 8.0, alpha, 0.3), rel=1e-5)


def test_a_stay_alone_has_its_own_other_view_as_neighbour(views):
    alone = neighbourhood_loss(*views, torch.arange(B), torch.zeros(B), alpha=1.0)
    assert torch.allclose(alone, nt_xent(*views))
    nothing_to_tell_apart = neighbourhood_loss(*views, torch.arange(B), torch.zeros(B), alpha=0.0)
    assert nothing_to_tell_apart.abs() < 1e-6


def test_neighbourhood_contrast_leaves_out_what_is_not_valid(views):
    valid = torch.tensor([True, True, False, True, True, False, True])
    where = torch.tensor([0, 0, 0, 1, 1, 2, 2]), torch.arange(7.0)
    few = neighbourhood_loss(*(view[valid] for view in views), *(of[valid] for of in where))
    assert torch.allclose(neighbourhood_loss(*views, *where, valid), few)


def literal_hierarchical(first, second, valid, alpha):
    """Yue et al. (2022), equations 1 to 3 and algorithm 1, with dot products, term by term."""

    def contrast(rows, i, j, among):
        terms = {k: math.exp((rows[i] * rows[k]).sum().item()) for k in among if k != i}
        return -math.log(terms[j] / sum(terms.values()))

    def contrasts(rows, place):
        """Over the rows that share a place with another stay's or step's; alone, nothing is told apart."""
        among = {i: [k for k in rows if k[place] == i[place]] for i in rows}
        terms = [contrast(rows, i, (1 - i[0], *i[1:]), among[i]) for i in rows if len(among[i]) > 2]
        return sum(terms) / len(terms) if terms else 0.0

    losses = []
    while True:
        batch, steps = valid.shape
        there = {(b, t) for b in range(batch) for t in range(steps) if valid[b, t]}
        rows = {(v, b, t): (first, second)[v][b, t] for v in range(2) for b, t in there}
        instance, temporal = contrasts(rows, place=2), contrasts(rows, place=1)
        losses.append(alpha * instance + ((1 - alpha) * temporal if steps > 1 else 0.0))
        if steps == 1:
            return sum(losses) / len(losses)
        half = steps // 2
        pooled = torch.zeros(2, batch, half, first.shape[-1])
        kept = torch.zeros(batch, half, dtype=torch.bool)
        for b in range(batch):
            for t in range(half):
                pair = [s for s in (2 * t, 2 * t + 1) if valid[b, s]]
                kept[b, t] = bool(pair)
                for v, view in enumerate((first, second)):
                    if pair:
                        pooled[v, b, t] = torch.stack([view[b, s] for s in pair]).amax(0)
        (first, second), valid = pooled, kept


@pytest.mark.parametrize("steps", [1, 4, 7])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_hierarchical_contrast_is_the_papers(steps, alpha):
    generator = torch.Generator().manual_seed(steps)
    first, second = 0.7 * torch.randn(2, 3, steps, P, generator=generator)
    valid = torch.rand(3, steps, generator=generator) < 0.8
    valid[0] = True
    found = hierarchical_loss(first, second, valid, alpha)
    assert found.item() == pytest.approx(literal_hierarchical(first, second, valid, alpha), rel=1e-4)


def test_hierarchical_contrast_is_the_same_in_pieces(monkeypatch):
    first, second = (torch.randn(4, 6, P, requires_grad=True) for _ in range(2))
    whole = hierarchical_loss(first, second)
    wanted = torch.autograd.grad(whole, (first, second))
    monkeypatch.setattr(hierarchical_module, "MOST_AT_ONCE", {"cpu": 100})
    pieces = hierarchical_loss(first, second)
    assert torch.allclose(pieces, whole)
    for found, gradient in zip(torch.autograd.grad(pieces, (first, second)), wanted, strict=True):
        assert torch.allclose(found, gradient, atol=1e-6)


def test_the_gradient_of_hierarchical_contrast_is_right():
    first, second = (torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    valid = torch.rand(3, 5) < 0.8
    valid[:2] = True
    assert torch.autograd.gradcheck(lambda a, b: hierarchical_loss(a, b, valid), (first, second))


def test_hierarchical_contrast_of_nothing_is_zero():
    steps = torch.randn(3, 4, P, requires_grad=True)
    loss = hierarchical_loss(steps, steps, torch.zeros(3, 4, dtype=torch.bool))
    loss.backward()
    assert loss == 0 and not steps.grad.any()


def test_what_has_nothing_to_be_told_from_does_not_count():
    first, second = torch.randn(2, 4, 3, P)
    valid = torch.ones(4, 3, dtype=torch.bool)
    valid[2:, 1:] = False  # two stays of one step
    few = first[:2], second[:2]
    assert torch.allclose(temporal_nt_xent(first, second, valid=valid), temporal_nt_xent(*few))
    one = torch.tensor([True, False, False, False])
    assert instance_contrast(first[:, 0], second[:, 0], 0.1, one).valid.sum() == 0
    assert nt_xent(first[:, 0], second[:, 0], valid=one) == 0


def test_modules_are_the_functions(views):
    label, where = torch.tensor([0, 1, 1, 0, 1, 0, 1]), (torch.arange(B) // 2, torch.arange(7.0))
    assert torch.equal(
        SupervisedContrastiveLoss(temperature=0.3)(*views, label),
        supervised_contrastive_loss(*views, label, temperature=0.3),
    )
    assert torch.equal(
        NeighbourhoodLoss(hours=2.0)(*views, *where), neighbourhood_loss(*views, *where, hours=2.0)
    )
    steps = [view.unsqueeze(0) for view in views]
    assert torch.equal(HierarchicalLoss(alpha=0.3)(*steps), hierarchical_loss(*steps, alpha=0.3))
