"""Several heads on one embedding, and the sum of their losses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from slices.heads import MultiTaskHead, MultiTaskLoss, build_task_head, build_task_loss

B, T, H = 8, 5, 6
TASKS = {
    "death": {"task_type": "binary", "input_dim": H, "dropout": 0.0},
    "stay": {"task_type": "regression", "loss": "gaussian", "name": "mlp", "input_dim": H, "dropout": 0.0},
    "organs": {"task_type": "multilabel", "n_classes": 3, "input_dim": H, "dropout": 0.0},
    "exit": {"task_type": "survival", "n_classes": 4, "n_risks": 2, "input_dim": H, "dropout": 0.0},
}


def labels() -> dict[str, Tensor]:
    return {
        "death": torch.randint(2, (B,)),
        "stay": torch.rand(B),
        "organs": torch.randint(2, (B, 3)).float(),
        "exit": torch.stack([torch.randint(4, (B,)), torch.randint(3, (B,))], -1),
    }


def make(weights: dict[str, float] | None = None) -> tuple[MultiTaskHead, MultiTaskLoss]:
    torch.manual_seed(0)
    losses = {task: build_task_loss(config) for task, config in TASKS.items()}
    return MultiTaskHead(TASKS), MultiTaskLoss(losses, weights)


def test_each_head_gives_what_it_gives_alone():
    head, _ = make()
    embedding = torch.randn(B, H)
    outputs = head(embedding)
    assert list(outputs) == list(TASKS)
    for task, config in TASKS.items():
        alone = build_task_head(config)
        alone.load_state_dict(head.heads[task].state_dict())
        torch.testing.assert_close(outputs[task], alone(embedding))


def test_the_sum_is_weighted_and_the_parts_are_not():
    head, loss = make({"stay": 0.25, "organs": 0.0})
    outputs, known = head(torch.randn(B, H)), labels()
    total, parts = loss(outputs, known)
    expected = {
        task: build_task_loss(TASKS[task])(outputs[task]["logits"], known[task]).item() for task in TASKS
    }
    assert {task: part.item() for task, part in parts.items()} == pytest.approx(expected)
    assert total.item() == pytest.approx(expected["death"] + 0.25 * expected["stay"] + expected["exit"])
    assert not any(part.requires_grad for part in parts.values())


def test_a_task_without_labels_adds_nothing_and_its_head_stands_still():
    head, loss = make()
    known = labels()
    known["stay"] = torch.full((B,), math.nan)
    masks = {"organs": torch.zeros(B, 3, dtype=torch.bool)}
    total, parts = loss(head(torch.randn(B, H)), known, masks)
    total.backward()
    assert parts["stay"] == parts["organs"] == 0
    moves = {
        task: any(bool((p.grad != 0).any()) for p in part.parameters()) for task, part in head.heads.items()
    }
    assert moves == {"death": True, "stay": False, "organs": False, "exit": True}


def test_every_task_reaches_the_embedding():
    head, loss = make()
    for task in TASKS:
        embedding = torch.randn(B, H, requires_grad=True)
        weights = {other: float(other == task) for other in TASKS}
        MultiTaskLoss(dict(loss.losses.items()), weights)(head(embedding), labels())[0].backward()
        assert bool((embedding.grad != 0).any()), task


def test_heads_that_pool_get_the_valid_steps_and_others_go_step_by_step():
    tasks = {"death": {"name": "attention", "input_dim": H}, "worse": {"input_dim": H}}
    head = MultiTaskHead(tasks).eval()
    assert head.pools_steps and not make()[0].pools_steps
    steps, valid = torch.randn(B, T, H), torch.rand(B, T) < 0.5
    outputs = head(steps, valid)
    assert outputs["death"]["probs"].shape == (B, 2) and outputs["worse"]["probs"].shape == (B, T, 2)
    torch.testing.assert_close(outputs["death"], head.heads["death"](steps, valid))


def test_compiles_whole_and_exports():
    head, loss = make()
    embedding, known = torch.randn(B, H), labels()

    def step(embedding: Tensor, known: dict[str, Tensor]) -> Tensor:
        return loss(head(embedding), known)[0]

    compiled = torch.compile(step, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(embedding, known), step(embedding, known))
    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(head, (embedding[:3],), dynamic_shapes={"embedding": {0: batch}}).module()
    torch.testing.assert_close(exported(embedding), head(embedding))


def test_tasks_that_do_not_agree_are_named():
    head, loss = make()
    outputs, known = head(torch.randn(B, H)), labels()
    with pytest.raises(ValueError, match=r"labels: unknown tasks \['mort'\], missing tasks \['death'\]"):
        loss(outputs, {("mort" if task == "death" else task): label for task, label in known.items()})
    with pytest.raises(ValueError, match=r"label_masks: unknown tasks \['mort'\]"):
        loss(outputs, known, {"mort": torch.ones(B, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"weights: unknown tasks \['mort'\]"):
        make({"mort": 1.0})
    with pytest.raises(ValueError, match="must not be negative"):
        make({"death": -1.0})
    with pytest.raises(ValueError, match="tasks is empty"):
        MultiTaskHead({})
    with pytest.raises(ValueError, match="did you mean 'attention'"):
        MultiTaskHead({"death": {"name": "atention", "input_dim": H}})
