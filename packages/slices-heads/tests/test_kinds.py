"""Every head with every type of task and loss: what all of them keep to."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from slices.heads import (
    TASK_HEAD_REGISTRY,
    TASK_LOSSES,
    BaseTaskHead,
    TaskLoss,
    build_task_head,
    build_task_loss,
    list_heads,
)

B, T, H, C, R = 16, 5, 8, 4, 2
KINDS = [(task_type, loss) for task_type, losses in TASK_LOSSES.items() for loss in losses]
LOGITS = {
    "binary": (2,),
    "survival": (C, R),
    "gaussian": (C, 2),
    "quantile": (C, 3),
}
LABELS = {"multilabel": (C,), "regression": (C,), "survival": (2,)}


FORMS = [("linear", False), ("mlp", False), ("mlp", True), ("attention", False)]


@pytest.fixture(params=KINDS, ids="-".join)
def kind(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> tuple[str, bool]:
    """A head, and whether it is asked step by step."""
    return request.param


def config(kind: tuple[str, str], name: str = "linear") -> dict[str, object]:
    task_type, loss = kind
    n_classes = None if task_type == "binary" else C
    risks = R if task_type == "survival" else 1
    return {
        "name": name,
        "task_type": task_type,
        "loss": loss,
        "n_classes": n_classes,
        "n_risks": risks,
        "input_dim": H,
        "dropout": 0.0,
    }


def make(kind: tuple[str, str], name: str = "linear") -> tuple[BaseTaskHead, TaskLoss]:
    torch.manual_seed(0)
    return build_task_head(config(kind, name)), build_task_loss(config(kind, name))


def steps_of(form: tuple[str, bool]) -> tuple[int, ...]:
    return (B, T) if form[1] else (B,)


def embed(form: tuple[str, bool]) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(B, T, H) if form[1] or TASK_HEAD_REGISTRY[form[0]].pools_steps else torch.randn(B, H)


def labels(task_type: str, steps: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    shape = (*steps, *LABELS.get(task_type, ()))
    if task_type == "regression":
        return 3 * torch.randn(shape, generator=generator)
    if task_type == "survival":
        event = torch.randint(R + 1, steps, generator=generator)
        interval = torch.randint(C, steps, generator=generator) + (event == 0)
        return torch.stack([interval, event], -1).float()
    n_classes = 2 if task_type in ("binary", "multilabel") else C
    return torch.randint(n_classes, shape, generator=generator).float()


def test_the_list_of_heads_is_whole():
    assert list_heads() == ["attention", "linear", "mlp"]


def test_shapes_follow_the_task(kind, form):
    head, loss = make(kind, form[0])
    outputs = head(embed(form))
    shape = LOGITS.get(kind[1]) or LOGITS.get(kind[0], (C,))
    assert outputs["logits"].shape == (*steps_of(form), *shape)
    assert outputs["probs"].shape == (*steps_of(form), *(shape if kind[0] != "regression" else (C,)))
    assert loss(outputs["logits"], labels(kind[0], steps_of(form))).shape == ()


def test_a_step_gets_what_a_stay_with_that_embedding_gets(kind):
    head, _ = make(kind, "mlp")
    steps = embed(("mlp", True))
    for key, value in head(steps[:, 2]).items():
        torch.testing.assert_close(head(steps)[key][:, 2], value)


def test_every_parameter_gets_a_gradient(kind, form):
    head, loss = make(kind, form[0])
    loss(head(embed(form))["logits"], labels(kind[0], steps_of(form))).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and bool((parameter.grad != 0).any()), name


def test_labels_behind_a_mask_change_nothing(kind, form):
    head, loss = make(kind, form[0])
    logits = head(embed(form))["logits"]
    label = labels(kind[0], steps_of(form))
    mask = torch.ones_like(label, dtype=torch.bool)
    mask[::3] = False
    expected = loss(logits[mask.reshape(B, -1)[:, 0]], label[mask.reshape(B, -1)[:, 0]])
    for hidden in (math.nan, math.inf, -7.0, 1e6):
        torch.testing.assert_close(loss(logits, label.masked_fill(~mask, hidden), mask), expected)
    torch.testing.assert_close(loss(logits, label.masked_fill(~mask, math.nan)), expected)


def test_a_batch_without_labels_gives_zero_and_a_zero_gradient(kind, form):
    head, loss = make(kind, form[0])
    label = labels(kind[0], steps_of(form))
    value = loss(head(embed(form))["logits"], label, torch.zeros_like(label, dtype=torch.bool))
    value.backward()
    assert value.item() == 0
    assert all(bool((parameter.grad == 0).all()) for parameter in head.parameters())


def test_extreme_logits_stay_finite(kind):
    head, loss = make(kind)
    label = labels(kind[0], (B,))
    for size in (1e-8, 30.0, 1e4):
        raw = (size * torch.randn(B, head.output_dim)).requires_grad_(True)
        outputs = head.outputs(raw)
        value = loss(outputs["logits"], label)
        value.backward()
        assert value.isfinite() and raw.grad.isfinite().all(), size
        assert outputs["logits"].isfinite().all() and outputs["probs"].isfinite().all()


def test_bfloat16_agrees_with_float32(kind, form):
    head, loss = make(kind, form[0])
    embedding, label = embed(form), labels(kind[0], steps_of(form))
    expected = loss(head(embedding)["logits"], label)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss(head(embedding)["logits"], label)
    half = loss(head.bfloat16()(embedding.bfloat16())["logits"], label)
    assert mixed.dtype == half.dtype == torch.float32
    torch.testing.assert_close(mixed, expected, rtol=3e-2, atol=3e-2)
    torch.testing.assert_close(half, expected, rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize(
    "form",
    [FORMS[0], *(pytest.param(form, marks=pytest.mark.slow) for form in FORMS[1:])],
    indirect=True,
    ids=str,
)
def test_compiles_whole(kind, form):
    head, loss = make(kind, form[0])
    embedding, label = embed(form), labels(kind[0], steps_of(form))

    def step(embedding: Tensor, label: Tensor) -> Tensor:
        return loss(head(embedding)["logits"], label)

    torch.compiler.reset()
    compiled = torch.compile(step, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(embedding, label), step(embedding, label))


@pytest.mark.slow
def test_exports_with_any_number_of_stays(kind, form):
    head, _ = make(kind, form[0])
    head.eval()
    embedding = embed(form)
    batch = torch.export.Dim("batch", min=2)
    shapes = {"embedding": {0: batch}}
    if head.pools_steps:
        shapes["valid"] = {0: batch}
    given = (embedding, torch.rand(B, T) < 0.7) if head.pools_steps else (embedding,)
    exported = torch.export.export(head, tuple(part[:3] for part in given), dynamic_shapes=shapes).module()
    for key, value in head(*given).items():
        torch.testing.assert_close(exported(*given)[key], value)


def test_weights_are_restored_to_the_bit(kind):
    head, _ = make(kind, "mlp")
    torch.manual_seed(3)
    other = build_task_head(config(kind, "mlp"))
    other.load_state_dict(head.state_dict())
    embedding = embed(("mlp", False))
    assert torch.equal(other(embedding)["logits"], head(embedding)["logits"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"task_type": "binary", "loss": "mse"}, "unknown loss of a binary task 'mse'"),
        ({"task_type": "regression", "loss": "focal"}, "gaussian, huber, mse, quantile"),
        ({"task_type": "survival", "n_classes": 3, "loss": "cross_entropy"}, "likelihood"),
        ({"task_type": "ordinal", "n_classes": 2}, "3 or more"),
        ({"task_type": "survival", "n_classes": 0}, "1 or more"),
        ({"task_type": "survival", "n_classes": 3, "n_risks": 0}, "n_risks=0"),
        ({"task_type": "multiclass", "n_classes": 3, "n_risks": 2}, "n_risks=2"),
        ({"task_type": "regression", "quantiles": [0.1, 0.9]}, "0.5 among them"),
        ({"task_type": "regression", "quantiles": [0.5, 0.5]}, "ascend"),
        ({"task_type": "regression", "quantiles": [0.5, 1.0]}, "ascend"),
        ({"task_type": "regression", "loss": "gausian"}, "did you mean 'gaussian'"),
        ({"task_type": "ordinal"}, "n_classes is missing"),
        ({"task_type": "survival"}, "n_classes is missing"),
    ],
)
def test_bad_configs_are_refused_by_name(given, said):
    with pytest.raises(ValueError, match=said):
        build_task_head({"input_dim": H, **given})


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("regression-mse", {"class_weight": torch.ones(1)}, "class_weight: loss=mse of a regression"),
        ("survival-likelihood", {"class_weight": torch.ones(4)}, "class_weight"),
        ("survival-likelihood", {"label_smoothing": 0.1}, "label_smoothing"),
        ("binary-focal", {"label_smoothing": 0.1}, "label_smoothing: loss=focal"),
        ("binary-cross_entropy", {"focal_gamma": 2.0}, "focal_gamma: loss=cross_entropy"),
        ("regression-mse", {"huber_delta": 2.0}, "huber_delta: loss=mse"),
        ("binary-focal", {"focal_gamma": -1.0}, "must not be negative"),
        ("regression-huber", {"huber_delta": 0.0}, "must be above 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(kind, options, said):
    with pytest.raises(ValueError, match=said):
        build_task_loss(config(kind.split("-")), **options)


@pytest.mark.parametrize("task_type", ["survival", "ordinal", "regression"])
def test_labels_of_another_shape_are_refused(task_type):
    kind = (task_type, "quantile" if task_type == "regression" else next(iter(TASK_LOSSES[task_type])))
    head, loss = make(kind)
    with pytest.raises(ValueError, match="does not fit"):
        loss(head(torch.randn(B, H))["logits"], torch.zeros(B, 3))


def test_quantiles_must_be_given_to_their_loss():
    with pytest.raises(ValueError, match="quantiles is missing"):
        TaskLoss("regression", loss="quantile")
    with pytest.raises(ValueError, match="quantiles: loss=mse"):
        TaskLoss("regression", quantiles=(0.5,))
