"""Heads: shapes, predictions, the factory, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from slices.heads import (
    TASK_HEAD_REGISTRY,
    BaseTaskHead,
    TaskHeadConfig,
    build_task_head,
    list_heads,
    register_head,
)

TASKS = [
    ("binary", None, 2),
    ("multiclass", 2, 2),
    ("multiclass", 5, 5),
    ("multilabel", 2, 2),
    ("regression", None, 1),
]
SHAPES = [(3, 8), (3, 4, 8)]
HEADS = [
    name for name in list_heads() if not TASK_HEAD_REGISTRY[name].pools_steps
]  # others: test_attention.py


@pytest.fixture(params=HEADS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(("task_type", "n_classes", "width"), TASKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_width_and_predictions_follow_the_task(name, task_type, n_classes, width, shape):
    head = build_task_head(
        {"name": name, "task_type": task_type, "n_classes": n_classes, "input_dim": 8}
    ).eval()
    outputs = head(torch.randn(shape))
    logits, probs = outputs["logits"], outputs["probs"]
    assert logits.shape == probs.shape == (*shape[:-1], width)
    assert head.output_dim == width
    expected = {
        "binary": logits.exp() / logits.exp().sum(-1, keepdim=True),
        "multiclass": logits.exp() / logits.exp().sum(-1, keepdim=True),
        "multilabel": 1 / (1 + (-logits).exp()),
        "regression": logits,
    }
    torch.testing.assert_close(probs, expected[task_type])


def test_two_classes_are_not_two_labels(name):
    embedding = torch.randn(4, 8)
    sums = {}
    for task_type in ("multiclass", "multilabel"):
        torch.manual_seed(0)
        head = build_task_head({"name": name, "task_type": task_type, "n_classes": 2, "input_dim": 8}).eval()
        sums[task_type] = head(embedding)["probs"].sum(-1)
    torch.testing.assert_close(sums["multiclass"], torch.ones(4))
    assert not torch.allclose(sums["multilabel"], torch.ones(4))


def test_a_step_gets_what_a_stay_with_that_embedding_gets(name):
    head = build_task_head({"name": name, "input_dim": 8}).eval()
    steps = torch.randn(3, 4, 8)
    torch.testing.assert_close(head(steps)["logits"][:, 2], head(steps[:, 2])["logits"])


def test_every_parameter_gets_a_gradient(name):
    head = build_task_head({"name": name, "input_dim": 8, "task_type": "multiclass", "n_classes": 3})
    head(torch.randn(16, 8))["logits"].square().sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in head.parameters())


def test_compiles_whole_and_exports(name):
    head = build_task_head({"name": name, "input_dim": 8}).eval()
    embedding = torch.randn(5, 8)
    expected = head(embedding)["probs"]
    torch.testing.assert_close(
        torch.compile(head, fullgraph=True, backend="eager")(embedding)["probs"], expected
    )
    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(head, (embedding[:3],), dynamic_shapes=({0: batch},)).module()
    torch.testing.assert_close(exported(embedding)["probs"], expected)


def test_mlp_has_the_hidden_layers_it_is_told_to_have():
    head = build_task_head(TaskHeadConfig(name="mlp", input_dim=8, hidden_dims=(16, 4)))
    assert [p.shape[0] for p in head.parameters() if p.ndim == 2] == [16, 4, 2]


def test_dropout_acts_in_training_only(name):
    head = build_task_head(TaskHeadConfig(name=name, input_dim=64, dropout=0.5))
    embedding = torch.randn(2, 64)
    assert not torch.equal(head(embedding)["logits"], head(embedding)["logits"])
    head.eval()
    assert torch.equal(head(embedding)["logits"], head(embedding)["logits"])


def test_a_new_head_in_two_lines():
    class MyTaskHead(BaseTaskHead):
        def __init__(self, config: TaskHeadConfig):
            super().__init__(config)
            self.layer = torch.nn.Linear(config.input_dim, self.output_dim)

        def forward(self, encoder_output):
            logits = self.layer(encoder_output)
            return {"logits": logits, "probs": logits.softmax(-1)}

    TASK_HEAD_REGISTRY["my_head"] = MyTaskHead
    try:
        head = build_task_head(TaskHeadConfig(name="my_head", input_dim=8))
        assert type(head) is MyTaskHead
        assert head(torch.randn(2, 8))["probs"].shape == (2, 2)
        assert "my_head" in list_heads("my_*")
    finally:
        del TASK_HEAD_REGISTRY["my_head"]


def test_the_decorator_returns_the_class():
    try:
        decorated = register_head("decorated")(TASK_HEAD_REGISTRY["linear"])
        assert decorated is TASK_HEAD_REGISTRY["decorated"] is TASK_HEAD_REGISTRY["linear"]
    finally:
        del TASK_HEAD_REGISTRY["decorated"]


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"name": "lineer"}, ValueError, "did you mean 'linear'"),
        ({"task_tipe": "binary"}, ValueError, "did you mean 'task_type'"),
        ({"task_type": "multi_class"}, ValueError, "did you mean 'multiclass'"),
        ({"task_type": "multiclass"}, ValueError, "n_classes is missing"),
        ({"task_type": "multilabel"}, ValueError, "n_classes is missing"),
        ({"task_type": "multiclass", "n_classes": 1}, ValueError, "2 or more"),
        ({"n_classes": 3}, ValueError, "n_classes=3"),
        ({"dropout": 1.0}, ValueError, "dropout=1.0"),
        ({"dropout": "much"}, TypeError, "dropout"),
        ({"hidden_dims": [64, 0]}, ValueError, "hidden_dims"),
        ({"input_dim": 0}, ValueError, "input_dim=0"),
        ({"input_dim": None}, ValueError, "input_dim is missing"),
    ],
)
def test_bad_configs_are_refused_by_name(given, error, said):
    with pytest.raises(error, match=said):
        build_task_head({"input_dim": 8, **given})


def test_a_config_is_the_same_from_keywords_and_from_a_mapping():
    config = TaskHeadConfig(name="mlp", input_dim=8, hidden_dims=(4,), dropout=0.0)
    mapping = {**dataclasses.asdict(config), "hidden_dims": [4]}
    torch.manual_seed(0)
    one = build_task_head(config)
    torch.manual_seed(0)
    other = build_task_head(mapping)
    assert one.config == other.config
    embedding = torch.randn(2, 8)
    assert torch.equal(one(embedding)["logits"], other(embedding)["logits"])
