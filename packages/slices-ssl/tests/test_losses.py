"""Losses against slow literal versions, and their symmetries."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from slices.ssl.losses import (
    NTXentLoss,
    TemporalNTXentLoss,
    instance_contrast,
    latent_loss,
    masked_mean,
    nt_xent,
    temporal_nt_xent,
    value_loss,
)


def literal_nt_xent(first, second, temperature):
    """Chen et al. (2020), equation 1 and algorithm 1, term by term."""
    views = [*first.double(), *second.double()]
    n = len(first)
    total = 0.0
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        terms = {
            k: math.exp(F.cosine_similarity(views[i], views[k], dim=0).item() / temperature)
            for k in range(2 * n)
            if k != i
        }
        total -= math.log(terms[j] / sum(terms.values()))
    return total / (2 * n)


@pytest.fixture
def views():
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(7, 5, generator=generator)
    return first, first + 0.5 * torch.randn(7, 5, generator=generator)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 2.0])
def test_nt_xent_is_equation_1(views, temperature):
    assert nt_xent(*views, temperature).item() == pytest.approx(
        literal_nt_xent(*views, temperature), rel=1e-5
    )


def test_nt_xent_symmetries(views):
    first, second = views
    loss = nt_xent(first, second)
    order = torch.randperm(7)
    assert torch.allclose(loss, nt_xent(second, first))
    assert torch.allclose(loss, nt_xent(first[order], second[order]))
    assert torch.allclose(loss, nt_xent(3 * first, 0.1 * second))
    rotation = torch.linalg.qr(torch.randn(5, 5)).Q
    assert torch.allclose(loss, nt_xent(first @ rotation, second @ rotation), atol=1e-5)
    assert loss < nt_xent(first, second[order.roll(1)])


def test_stays_that_are_not_valid_are_as_if_absent(views):
    first, second = (view.clone().requires_grad_() for view in views)
    valid = torch.tensor([True, False, True, True, False, True, True])
    loss = nt_xent(first, second, valid=valid)
    assert torch.allclose(loss, nt_xent(first[valid], second[valid]))
    loss.backward()
    assert not first.grad[~valid].any() and first.grad[valid].any()


@pytest.mark.parametrize("n_valid", [0, 1])
def test_nothing_to_compare_is_a_loss_of_zero(views, n_valid):
    first = views[0].clone().requires_grad_()
    loss = nt_xent(first, views[1], valid=torch.arange(7) < n_valid)
    loss.backward()
    assert loss.item() == 0 and first.grad.abs().max() < 1e-6


def test_accuracy_is_the_share_of_nearest_other_views(views):
    first, second = views
    everything = F.normalize(torch.cat([first, second]), dim=-1)
    similarity = (everything @ everything.T).fill_diagonal_(-2.0)
    nearest = similarity.argmax(-1) == torch.cat([torch.arange(7, 14), torch.arange(7)])
    assert instance_contrast(first, second).accuracy() == nearest.float().mean()


def test_temporal_nt_xent_is_nt_xent_over_each_stays_steps():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 4, 6, 5, generator=generator)
    valid = torch.rand(4, 6, generator=generator) < 0.6
    total, count = 0.0, 0
    for stay in range(4):
        n = int(valid[stay].sum())
        if n:
            total += 2 * n * literal_nt_xent(first[stay][valid[stay]], second[stay][valid[stay]], 0.2)
            count += 2 * n
    assert temporal_nt_xent(first, second, 0.2, valid).item() == pytest.approx(total / count, rel=1e-5)


def test_modules_are_the_functions(views):
    assert torch.equal(NTXentLoss(temperature=0.3)(*views), nt_xent(*views, 0.3))
    steps = [view.unsqueeze(0) for view in views]
    assert torch.equal(TemporalNTXentLoss(temperature=0.3)(*steps), temporal_nt_xent(*steps, 0.3))


def test_similarities_are_exact_under_autocast(views):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(nt_xent(*views), torch.tensor(literal_nt_xent(*views, 0.1)).float())


@pytest.mark.parametrize(
    ("kind", "literal"),
    [("mse", lambda e: e * e), ("huber", lambda e: e * e / 2 if abs(e) < 1 else abs(e) - 0.5)],
)
def test_value_loss_counts_each_cell_once(kind, literal):
    generator = torch.Generator().manual_seed(0)
    prediction, target = 2 * torch.randn(2, 3, 4, 5, generator=generator)
    where = torch.rand(3, 4, 5, generator=generator) < 0.3
    errors = [literal(e) for e in (prediction - target)[where].tolist()]
    assert value_loss(prediction, target, where, kind).item() == pytest.approx(sum(errors) / len(errors))


def test_the_mean_of_nothing_is_zero_with_a_gradient_of_zero():
    values = torch.randn(3, requires_grad=True)
    mean = masked_mean(values, torch.zeros(3, dtype=torch.bool))
    mean.backward()
    assert mean.item() == 0 and not values.grad.any()


def test_latent_loss_against_a_loop():
    generator = torch.Generator().manual_seed(0)
    prediction, target = torch.randn(2, 6, 8, generator=generator)
    target = (5 * target + 2).requires_grad_()
    where = torch.tensor([True, True, False, True, False, True])
    total = 0.0
    for p, t in zip(prediction[where], target[where].detach(), strict=True):
        t = (t - t.mean()) / (t.var(correction=0) + 1e-5).sqrt()
        errors = (p - t).abs().tolist()
        total += sum(e * e / 2 if e < 1 else e - 0.5 for e in errors) / 8
    loss = latent_loss(prediction.requires_grad_(), target, where)
    assert loss.item() == pytest.approx(total / 4, rel=1e-5)
    loss.backward()
    assert target.grad is None and not prediction.grad[~where].any()
