"""Weights of a blend, against all there are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from slices.training.baseline.blend import _loss, blend_weights, blended


def some(task_type: str, n: int = 1000) -> tuple[torch.Tensor, torch.Tensor]:
    """Two models that see the truth through noise of their own, and one that sees nothing."""
    g = torch.Generator().manual_seed(0)
    width = {"binary": 1, "multiclass": 3, "multilabel": 3, "regression": 2}[task_type]
    score = torch.randn(n, width, generator=g).double()
    views = [score + s * torch.randn(n, width, generator=g) for s in (0.5, 0.8)]
    views.append(torch.randn(n, width, generator=g))
    logits = torch.stack([view.double() * 2 for view in views])
    if task_type == "multiclass":
        label = torch.nn.functional.one_hot((score * 2).softmax(-1).multinomial(1, generator=g)[:, 0], 3)
        return logits.log_softmax(-1), label.double()
    if task_type == "regression":
        return logits, 2 * score
    label = torch.bernoulli((score * 2).sigmoid(), generator=g)
    if task_type == "multilabel":
        label[::3, 1] = torch.nan
    return logits, label


@pytest.mark.parametrize("task_type", ["binary", "multiclass", "multilabel", "regression"])
def test_no_other_weights_have_less_loss(task_type):
    logits, label = some(task_type)
    weights = blend_weights(logits, label, task_type)
    assert float(weights.sum()) == pytest.approx(1) and weights.min() >= 0
    assert weights[0] > weights[1] > weights[2] and weights[2] < 0.1  # the last one sees nothing
    scales = [1.0] if task_type == "regression" else np.geomspace(0.2, 2, 21)

    def least(weights):
        mean = torch.einsum("m,mnc->nc", weights, logits)
        return min(float(_loss(scale * mean, label, task_type)) for scale in scales)

    for a in np.linspace(0, 1, 11):
        for b in np.linspace(0, 1 - a, 11):
            assert least(weights) <= least(torch.tensor([a, b, 1 - a - b])) + 1e-3


def test_what_a_blend_predicts_is_of_its_kind():
    weights = torch.tensor([0.25, 0.75]).double()
    p = torch.tensor([[[0.2]], [[0.6]]]).double()
    odds = (0.2 / 0.8) ** 0.25 * (0.6 / 0.4) ** 0.75
    assert blended(p.logit(), weights, "binary").item() == pytest.approx(odds / (1 + odds))
    assert blended(p, weights, "regression").item() == pytest.approx(0.5)
    classes = torch.tensor([[[0.2, 0.8]], [[0.6, 0.4]]]).double()
    assert blended(classes.log(), weights, "multiclass")[0, 1].item() == pytest.approx(1 - odds / (1 + odds))
