"""The focal loss: against a literal version, and what it does to the gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from slices.heads import TaskLoss, binary_focal_loss, cross_entropy_loss, focal_loss


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits.astype(np.float64))
    return exponentials / exponentials.sum()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("weight", [None, [1.0, 0.5, 4.0]])
def test_equals_the_literal_version(gamma, weight):
    logits, label = 2 * torch.randn(6, 3), torch.tensor([0, 2, 1, 1, 2, 0])
    w = np.ones(3) if weight is None else np.array(weight)
    total = share = 0.0
    for row, y in zip(logits.numpy(), label.tolist(), strict=True):
        p = softmax(row)[y]
        total += w[y] * (1 - p) ** gamma * -np.log(p)
        share += w[y]
    given = None if weight is None else torch.tensor(weight)
    value = focal_loss(logits, label, class_weight=given, focal_gamma=gamma)
    assert value.item() == pytest.approx(total / share, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("weight", [None, [1.0, 0.5, 4.0]])
def test_labels_equal_the_literal_version(gamma, weight):
    logits = 2 * torch.randn(6, 3)
    label = torch.randint(2, (6, 3)).float()
    label[1, 2] = label[4, 0] = torch.nan
    w = np.ones(3) if weight is None else np.array(weight)
    losses = []
    for row, answers in zip(logits.numpy(), label.numpy(), strict=True):
        for c in range(3):
            if np.isnan(answers[c]):
                continue
            yes = 1 / (1 + np.exp(-np.float64(row[c])))
            p, factor = (yes, w[c]) if answers[c] else (1 - yes, 1.0)
            losses.append(factor * (1 - p) ** gamma * -np.log(p))
    given = None if weight is None else torch.tensor(weight)
    value = binary_focal_loss(logits, label, class_weight=given, focal_gamma=gamma)
    assert value.item() == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize("task_type", ["binary", "multiclass", "multilabel", "ordinal"])
@pytest.mark.parametrize("weighted", [False, True])
def test_without_gamma_it_is_cross_entropy(task_type, weighted):
    logits = torch.randn(8, 2 if task_type == "binary" else 3)
    label = torch.randint(2, logits.shape if task_type == "multilabel" else (8,))
    weight = torch.rand(logits.shape[-1]) if weighted else None
    focal = TaskLoss(task_type, weight, loss="focal", focal_gamma=0.0)
    torch.testing.assert_close(focal(logits, label), TaskLoss(task_type, weight)(logits, label))


@given(seed=st.integers(0, 1000), gamma=st.floats(0.1, 5))
@settings(max_examples=30, deadline=None)
def test_it_is_never_more_than_cross_entropy_and_turns_to_what_is_wrong(seed, gamma):
    generator = torch.Generator().manual_seed(seed)
    logits, label = 3 * torch.randn(1, 4, generator=generator), torch.tensor([1])
    focal = focal_loss(logits, label, focal_gamma=gamma)
    assert 0 <= focal <= cross_entropy_loss(logits, label) + 1e-6
    better = logits + torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    assert focal_loss(better, label, focal_gamma=gamma) <= focal + 1e-6


def test_two_classes_are_one_label():
    """A binary task's two logits give what their difference gives as one yes-or-no."""
    logits, label = torch.randn(8, 2), torch.randint(2, (8,))
    odds = (logits[:, 1] - logits[:, 0])[:, None]
    torch.testing.assert_close(focal_loss(logits, label), binary_focal_loss(odds, label[:, None]))


def test_the_gradient_is_right_and_finite_where_all_is_sure():
    logits = torch.tensor([[80.0, -80.0], [-80.0, 80.0]], requires_grad=True)
    focal_loss(logits, torch.tensor([0, 0]), focal_gamma=0.5).backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[0.0, 0.0], [-0.5, 0.5]]))


class Waiting(TorchDispatchMode):
    """Notes each operation that has to wait for a number of the device."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "_local_scalar_dense" in str(function):
            self.waits.append(str(function))
        return function(*args, **(kwargs or {}))


def test_nothing_waits_for_a_number_of_the_device(monkeypatch):
    monkeypatch.setattr("slices.heads.focal.check_classes", lambda *_: None)  # which looks on the CPU only
    with Waiting() as waiting:
        focal_loss(torch.randn(4, 3), torch.tensor([0, 2, 1, 1]))
        binary_focal_loss(torch.randn(4, 3), torch.ones(4, 3))
    assert waiting.waits == []
