"""Losses against those of an independent library, where it is installed: ``hatch run parity:run``."""

from __future__ import annotations

import pytest
import torch

from slices.ssl.losses import barlow_twins_loss, cosine_loss, dino_loss, nt_xent, vicreg_loss

theirs = pytest.importorskip("lightly.loss", reason="lightly is not installed: hatch run parity:run")


@pytest.fixture(params=range(3))
def views(request):
    generator = torch.Generator().manual_seed(request.param)
    first = torch.randn(16, 8, generator=generator) * torch.linspace(0.2, 2.0, 8)
    second = first + torch.randn(16, 8, generator=generator)
    return first.requires_grad_(), second.requires_grad_()


def same(ours, wanted, views):
    assert torch.allclose(ours, wanted, rtol=1e-4)
    gradients = [torch.autograd.grad(loss, views, retain_graph=True) for loss in (ours, wanted)]
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent(views, temperature):
    same(nt_xent(*views, temperature), theirs.NTXentLoss(temperature=temperature)(*views), views)


def test_vicreg(views):
    same(vicreg_loss(*views), theirs.VICRegLoss()(*views), views)


def test_barlow_twins(views):
    same(barlow_twins_loss(*views), theirs.BarlowTwinsLoss(lambda_param=0.005)(*views), views)


def test_cosine_loss_is_that_of_byol(views):
    """Theirs is the negative cosine similarity, of which ours is 2 + 2 times."""
    first, second = views
    wanted = 2 + 2 * theirs.NegativeCosineSimilarity()(first, second.detach())
    assert torch.allclose(cosine_loss(first, second), wanted, rtol=1e-5)


def test_dino():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(4, 16, 8, generator=generator), torch.randn(2, 16, 8, generator=generator)
    loss = theirs.DINOLoss(output_dim=8, warmup_teacher_temp_epochs=0, teacher_temp=0.04, student_temp=0.1)
    ours = dino_loss(student, teacher, loss.center.flatten())
    assert torch.allclose(ours, loss([*teacher], [*student]), rtol=1e-4)
