"""Losses of joint embeddings against slow literal versions of their papers' equations."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from slices.ssl.losses import (
    BarlowTwinsLoss,
    CosineLoss,
    DINOLoss,
    SIGRegLoss,
    VICRegLoss,
    barlow_twins_loss,
    cosine_loss,
    dino_loss,
    sigreg_loss,
    vicreg_loss,
)

N, P = 9, 5
VALID = torch.tensor([True, True, False, True, True, True, False, True, True])


@pytest.fixture
def views():
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(N, P, generator=generator) * torch.linspace(0.2, 2.0, P)
    return first, first + 0.5 * torch.randn(N, P, generator=generator)


def literal_vicreg(first, second):
    """Bardes et al. (2022), equations 1 to 6, number by number."""
    n, width = first.shape
    distance = sum(
        (a - b) ** 2 for a, b in zip(first.flatten().tolist(), second.flatten().tolist(), strict=True)
    )
    loss = 25 * distance / n / width
    for view in (first, second):
        mean = [sum(view[:, j].tolist()) / n for j in range(width)]
        covariance = [
            [
                sum((view[i, j] - mean[j]).item() * (view[i, k] - mean[k]).item() for i in range(n)) / (n - 1)
                for k in range(width)
            ]
            for j in range(width)
        ]
        loss += 25 / 2 * sum(max(0.0, 1 - math.sqrt(covariance[j][j] + 1e-4)) for j in range(width)) / width
        loss += sum(covariance[j][k] ** 2 for j in range(width) for k in range(width) if j != k) / width
    return loss


def literal_barlow_twins(first, second):
    """Zbontar et al. (2021), equations 1 and 2; standardised as batch normalisation does."""
    n, width = first.shape
    one, two = ((v - v.mean(0)) / (v.var(0, correction=0) + 1e-5).sqrt() for v in (first, second))
    loss = 0.0
    for j in range(width):
        for k in range(width):
            c = sum(one[i, j].item() * two[i, k].item() for i in range(n)) / n
            loss += (1 - c) ** 2 if j == k else 0.005 * c**2
    return loss


def literal_sigreg(rows, directions):
    """Balestriero & LeCun (2025): the statistic of Epps and Pulley over the whole axis."""
    points = [5 * k / 16 for k in range(-16, 17)]
    total = 0.0
    for direction in directions:
        shadow = (rows @ direction).tolist()
        heights = []
        for t in points:
            phi = sum(complex(math.cos(t * s), math.sin(t * s)) for s in shadow) / len(shadow)
            heights.append(abs(phi - math.exp(-t * t / 2)) ** 2 * math.exp(-t * t / 2))
        total += sum((a + b) / 2 * 5 / 16 for a, b in pairwise(heights))
    return len(rows) * total / len(directions)


@pytest.mark.parametrize(
    ("loss", "literal"), [(vicreg_loss, literal_vicreg), (barlow_twins_loss, literal_barlow_twins)]
)
def test_the_statistics_of_two_views_are_the_papers(loss, literal, views):
    assert loss(*views).item() == pytest.approx(literal(*views), rel=1e-5)
    valid = [view[VALID] for view in views]
    noisy = [torch.where(VALID[:, None], view, torch.nan) for view in views]
    assert loss(*noisy, VALID).item() == pytest.approx(literal(*valid), rel=1e-5)


def test_sigreg_is_the_papers(views):
    directions = F.normalize(torch.randn(4, P, generator=torch.Generator().manual_seed(1)), dim=-1)
    assert sigreg_loss(views[0], directions).item() == pytest.approx(
        literal_sigreg(views[0], directions), rel=1e-4
    )
    wanted = literal_sigreg(views[0][VALID], directions)
    assert sigreg_loss(views[0], directions, VALID).item() == pytest.approx(wanted, rel=1e-4)


def test_sigreg_is_least_for_a_standard_normal():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(4000, P, generator=generator)
    directions = F.normalize(torch.randn(64, P, generator=generator), dim=-1)
    normal = sigreg_loss(rows, directions)
    for other in (2 * rows, rows / 2, rows + 1, rows.sign(), rows[:, :1].expand(-1, P)):
        assert sigreg_loss(other, directions) > 5 * normal


@pytest.mark.parametrize("loss", [vicreg_loss, barlow_twins_loss])
@pytest.mark.parametrize("n_valid", [0, 1])
def test_too_few_stays_are_a_loss_of_zero_with_a_finite_gradient(loss, n_valid, views):
    first = views[0].clone().requires_grad_()
    value = loss(first, views[1], torch.arange(N) < n_valid)
    value.backward()
    assert first.grad.isfinite().all() and not first.grad.any()
    if n_valid == 0:
        assert value == 0


def test_sigreg_of_nothing_is_zero():
    assert sigreg_loss(torch.randn(3, P), torch.randn(2, P), torch.zeros(3, dtype=torch.bool)) == 0


def test_cosine_loss_is_equation_2_of_byol(views):
    first, second = views[0].clone().requires_grad_(), views[1].clone().requires_grad_()
    wanted = [
        ((p / p.norm() - t / t.norm()) ** 2).sum().item()
        for p, t in zip(first[VALID], second[VALID], strict=True)
    ]
    loss = cosine_loss(first, second, VALID)
    assert loss.item() == pytest.approx(sum(wanted) / len(wanted), rel=1e-5)
    loss.backward()
    assert second.grad is None and not first.grad[~VALID].any()


def test_dino_loss_is_the_papers():
    """Caron et al. (2021), algorithm 1: cross-entropy of every pair of views that are not the same."""
    generator = torch.Generator().manual_seed(0)
    student, centre = torch.randn(4, 3, 6, generator=generator), torch.randn(6, generator=generator)
    teacher = torch.randn(2, 3, 6, generator=generator)
    valid = torch.tensor([[True, True, False], [True, True, True], [True, False, True], [True, True, True]])
    terms = []
    for g in range(2):
        for v in range(4):
            for b in range(3):
                if g != v and valid[g, b] and valid[v, b]:
                    target = ((teacher[g, b] - centre) / 0.04).softmax(-1)
                    terms.append(-(target * (student[v, b] / 0.1).log_softmax(-1)).sum().item())
    assert dino_loss(student, teacher, centre, valid).item() == pytest.approx(
        sum(terms) / len(terms), rel=1e-5
    )


def test_no_gradient_reaches_dinos_teacher():
    student, teacher = (torch.randn(2, 3, 4, requires_grad=True) for _ in range(2))
    dino_loss(student, teacher, torch.zeros(4)).backward()
    assert teacher.grad is None and student.grad.any()


def test_modules_are_the_functions(views):
    directions = F.normalize(torch.randn(3, P), dim=-1)
    logits = torch.randn(2, 3, 4)
    assert torch.equal(VICRegLoss(variance=10.0)(*views), vicreg_loss(*views, variance=10.0))
    assert torch.equal(BarlowTwinsLoss(redundancy=0.1)(*views), barlow_twins_loss(*views, redundancy=0.1))
    assert torch.equal(SIGRegLoss()(views[0], directions), sigreg_loss(views[0], directions))
    assert torch.equal(CosineLoss()(*views), cosine_loss(*views))
    assert torch.equal(DINOLoss()(logits, logits, torch.zeros(4)), dino_loss(logits, logits, torch.zeros(4)))
    with pytest.raises(TypeError, match="varance"):
        VICRegLoss(varance=1.0)
    assert "variance=10.0" in repr(VICRegLoss(variance=10.0))


@pytest.mark.parametrize("loss", [vicreg_loss, barlow_twins_loss])
def test_statistics_are_exact_under_autocast(loss, views):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(*views), loss(*views))
        low = loss(*views)
    assert torch.allclose(low, loss(*views), rtol=1e-5)
