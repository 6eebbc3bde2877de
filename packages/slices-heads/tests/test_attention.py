"""The head that attends to steps: which count, which do not, and what it says of them."""

from __future__ import annotations

import math

import pytest
import torch

from slices.heads import BaseTaskHead, attention_pool, build_task_head

B, T, H = 6, 5, 8


def make(**options: object) -> BaseTaskHead:
    torch.manual_seed(0)
    config = {"name": "attention", "input_dim": H, "task_type": "multiclass", "n_classes": 3, "dropout": 0.0}
    return build_task_head({**config, **options})


def valid_steps() -> torch.Tensor:
    return torch.arange(T) < torch.tensor([5, 4, 3, 2, 1, 0])[:, None]


def test_pooling_equals_the_literal_version():
    steps, score, valid = torch.randn(B, T, H), torch.randn(B, T), valid_steps()
    pooled, weight = attention_pool(steps, score, valid)
    for b in range(B):
        there = [t for t in range(T) if valid[b, t]]
        norm = sum(math.exp(score[b, t]) for t in there)
        expected = sum((steps[b, t] * math.exp(score[b, t]) / norm for t in there), torch.zeros(H))
        torch.testing.assert_close(pooled[b], expected)
        assert weight[b].sum().item() == pytest.approx(1.0 if there else 0.0)


def test_steps_that_are_not_valid_do_not_count():
    head, steps, valid = make(), torch.randn(B, T, H), valid_steps()
    expected = head(steps, valid)
    for hidden in (0.0, 1e4, math.nan):
        other = head(steps.masked_fill(~valid.unsqueeze(-1), hidden), valid)
        torch.testing.assert_close(other["logits"], expected["logits"])
    assert bool((expected["attention"][~valid] == 0).all())
    torch.testing.assert_close(head(steps[:, :4], valid[:, :4])["logits"][1:], expected["logits"][1:])
    torch.testing.assert_close(head(steps[1:2, :4])["logits"], expected["logits"][1:2])


def test_a_stay_without_steps_is_finite_and_so_is_its_gradient():
    head = make()
    steps = torch.full((B, T, H), math.nan, requires_grad=True)
    outputs = head(steps, torch.zeros(B, T, dtype=torch.bool))
    outputs["logits"].sum().backward()
    assert outputs["probs"].isfinite().all() and bool((outputs["attention"] == 0).all())
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())
    assert bool((steps.grad == 0).all())


def test_the_order_of_the_steps_does_not_matter_but_they_do():
    head, steps = make(), torch.randn(B, T, H)
    expected = head(steps)["logits"]
    torch.testing.assert_close(head(steps.flip(1))["logits"], expected)
    assert not torch.allclose(head(2 * steps)["logits"], expected)


def test_it_says_where_it_looked():
    attention = make()(torch.randn(B, T, H))["attention"]
    assert attention.shape == (B, T)
    torch.testing.assert_close(attention.sum(-1), torch.ones(B))


def test_without_hidden_layers_it_is_linear_on_the_pooled_step():
    head = make(hidden_dims=())
    assert [tuple(layer.weight.shape) for layer in head.layers] == [(3, H)]


def test_it_says_that_it_needs_steps():
    assert make().pools_steps and not build_task_head({"input_dim": H}).pools_steps
    with pytest.raises(ValueError, match=r"pools steps \(B, T, H\)"):
        make()(torch.randn(B, H))


def test_it_finds_the_step_that_matters():
    """Learns to answer by the one marked step among others."""
    torch.manual_seed(0)
    steps, label = torch.randn(256, T, H), torch.randint(2, (256,))
    marked = torch.randint(T, (256,))
    rows = torch.arange(256)
    steps[rows, marked, 0] = 4.0
    steps[rows, marked, 1] = 3.0 * (2 * label - 1)
    head = make(task_type="binary", n_classes=None)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(head(steps)["logits"], label).backward()
        optimizer.step()
    outputs = head(steps)
    assert (outputs["logits"].argmax(-1) == label).float().mean() > 0.95
    assert (outputs["attention"].argmax(-1) == marked).float().mean() > 0.9
