"""Task losses: against literal versions, for their symmetries, and with labels missing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from slices.heads import TaskLoss, balanced_class_weights

TASK_TYPES = ["binary", "multiclass", "multilabel", "regression"]
WEIGHTS = {
    "binary": [1.0, 4.0],
    "multiclass": [1.0, 0.5, 3.0],
    "multilabel": [2.0, 0.5, 3.0],
    "regression": None,
}


def draw(task_type: str, steps: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels and a mask with some labels missing; what is missing is NaN."""
    generator = torch.Generator().manual_seed(seed)
    width = {"binary": 2, "multiclass": 3, "multilabel": 3, "regression": 1}[task_type]
    shape = (*steps, width) if task_type == "multilabel" else steps
    logits = 2 * torch.randn(*steps, width, generator=generator)
    if task_type == "regression":
        label = torch.randn(shape, generator=generator)
    else:
        classes = width if task_type in ("binary", "multiclass") else 2
        label = torch.randint(classes, shape, generator=generator).float()
    mask = torch.rand(shape, generator=generator) < 0.7
    mask.view(-1)[0] = True
    return logits, label.masked_fill(~mask, math.nan), mask


def make_loss(task_type: str, smoothing: float, weighted: bool) -> TaskLoss:
    if task_type == "regression":
        return TaskLoss(task_type)
    weight = torch.tensor(WEIGHTS[task_type]) if weighted else None
    return TaskLoss(task_type, class_weight=weight, label_smoothing=smoothing)


def literal_loss(task_type: str, logits: Tensor, label: Tensor, mask: Tensor, loss: TaskLoss) -> float:
    """One label after the other, in plain Python."""
    smoothing, width = loss.label_smoothing, logits.shape[-1]
    total, share = 0.0, 0.0
    weight = [1.0] * width if loss.class_weight is None else loss.class_weight.tolist()
    rows = logits.reshape(-1, width).tolist()
    labels, there = label.reshape(len(rows), -1).tolist(), mask.reshape(len(rows), -1).tolist()
    for row, targets, present in zip(rows, labels, there, strict=True):
        for c, (target, is_present) in enumerate(zip(targets, present, strict=True)):
            if not is_present:
                continue
            if task_type == "regression":
                total, share = total + (row[c] - target) ** 2, share + 1
            elif task_type == "multilabel":
                p = 1 / (1 + math.exp(-row[c]))
                soft = target * (1 - smoothing) + smoothing / 2
                total -= weight[c] * soft * math.log(p) + (1 - soft) * math.log(1 - p)
                share += 1
            else:
                y, norm = int(target), math.log(sum(math.exp(z) for z in row))
                for k, z in enumerate(row):
                    soft = (1 - smoothing) * (k == y) + smoothing / width
                    total += weight[k] * soft * (norm - z)
                share += weight[y]
    return total / share


@pytest.mark.parametrize("task_type", TASK_TYPES)
@pytest.mark.parametrize("steps", [(6,), (3, 5)])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_the_literal_version(task_type, steps, smoothing, weighted):
    loss = make_loss(task_type, smoothing, weighted)
    logits, label, mask = draw(task_type, steps)
    expected = literal_loss(task_type, logits, label, mask, loss)
    assert loss(logits, label, mask).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("task_type", TASK_TYPES)
@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_missing_labels_count_for_nothing(task_type, seed):
    """Stays without any label can be left out, and the order of the stays does not matter."""
    loss = make_loss(task_type, 0.1, weighted=True)
    logits, label, mask = draw(task_type, (7,), seed)
    there = mask.reshape(7, -1).any(1)
    torch.testing.assert_close(loss(logits, label, mask), loss(logits[there], label[there], mask[there]))
    torch.testing.assert_close(loss(logits, label, mask), loss(logits.flip(0), label.flip(0), mask.flip(0)))


@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_no_mask_means_all_present(task_type):
    logits, label, _ = draw(task_type, (5,))
    label = label.nan_to_num(0.0)
    loss = make_loss(task_type, 0.0, weighted=False)
    torch.testing.assert_close(
        loss(logits, label), loss(logits, label, torch.ones_like(label, dtype=torch.bool))
    )


@pytest.mark.parametrize("task_type", TASK_TYPES)
@pytest.mark.parametrize("masked", [False, True])
def test_a_label_that_is_no_number_is_missing(task_type, masked):
    logits, label, mask = draw(task_type, (4, 5))
    loss = make_loss(task_type, 0.1, weighted=True)
    everywhere = torch.ones_like(mask) if masked else None
    torch.testing.assert_close(loss(logits, label, everywhere), loss(logits, label, mask))


@pytest.mark.parametrize("task_type", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("wrong", [-100, -1, 3, 0.5])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_label_that_is_no_class_is_refused_by_name(task_type, wrong, weighted):
    logits, label, _ = draw(task_type, (5,))
    label = label.nan_to_num(0.0)
    label.view(-1)[2] = wrong
    n_classes = 3 if task_type == "multiclass" else 2
    labels = [label] if wrong == 0.5 else [label, label.long()]
    for label in labels:
        with pytest.raises(ValueError, match=rf"label {wrong} is no class: there are {n_classes}.*1 such"):
            make_loss(task_type, 0.0, weighted)(logits, label)
        with pytest.raises(ValueError, match=rf"label {wrong} is no class"):
            balanced_class_weights(label, None, task_type, logits.shape[-1])
        make_loss(task_type, 0.0, weighted)(logits, label, label != wrong)


@pytest.mark.parametrize("task_type", TASK_TYPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_batch_without_labels_gives_zero_and_a_zero_gradient(task_type, weighted):
    logits, label, mask = draw(task_type, (5,))
    logits.requires_grad_(True)
    value = make_loss(task_type, 0.1, weighted)(
        logits, torch.full_like(label, math.nan), torch.zeros_like(mask)
    )
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_the_gradient_stays_with_the_labels_that_are_there(task_type):
    logits, label, mask = draw(task_type, (4, 5))
    logits.requires_grad_(True)
    make_loss(task_type, 0.0, weighted=False)(logits, label, mask).backward()
    expected = mask if task_type == "multilabel" else mask.unsqueeze(-1).expand_as(logits)
    assert torch.equal(logits.grad != 0, expected)


@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_compiles_whole_and_agrees_in_bfloat16(task_type):
    loss = make_loss(task_type, 0.1, weighted=True)
    logits, label, mask = draw(task_type, (64,))
    expected = loss(logits, label, mask)
    torch.testing.assert_close(
        torch.compile(loss, fullgraph=True, backend="eager")(logits, label, mask), expected
    )
    half = loss(logits.bfloat16(), label, mask)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, expected, rtol=1e-2, atol=1e-2)


def test_one_target_takes_labels_with_and_without_the_last_axis():
    logits, label, mask = draw("regression", (6,))
    loss = TaskLoss("regression")
    torch.testing.assert_close(loss(logits, label, mask), loss(logits, label[:, None], mask[:, None]))


@pytest.mark.parametrize(
    ("task_type", "logits", "label"),
    [
        ("binary", (4, 1), (4,)),
        ("binary", (4, 2), (4, 1)),
        ("multiclass", (4, 5, 3), (4,)),
        ("multilabel", (4, 3), (4,)),
        ("regression", (4, 1), (1,)),
        ("regression", (4, 2), (4,)),
    ],
)
def test_shapes_that_do_not_fit_are_refused_not_broadcast(task_type, logits, label):
    with pytest.raises(ValueError, match="does not fit"):
        TaskLoss(task_type)(torch.zeros(logits), torch.zeros(label))


def test_a_mask_unlike_the_label_is_refused():
    with pytest.raises(ValueError, match="label_mask"):
        TaskLoss("binary")(torch.zeros(4, 2), torch.zeros(4), torch.ones(4, 2, dtype=torch.bool))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"task_type": "binery"}, "did you mean 'binary'"),
        ({"task_type": "regression", "label_smoothing": 0.1}, "regression"),
        ({"task_type": "regression", "class_weight": torch.ones(1)}, "regression"),
        ({"task_type": "binary", "label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"task_type": "binary", "class_weight": torch.tensor([1.0, math.inf])}, "class_weight"),
    ],
)
def test_bad_arguments_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        TaskLoss(**arguments)


@given(labels=st.lists(st.sampled_from([0, 0, 0, 1, 2, math.nan]), min_size=1, max_size=40))
def test_balanced_classes_weigh_the_same_in_total(labels):
    label = torch.tensor(labels, dtype=torch.float32)
    mask = label.isfinite()
    weight = balanced_class_weights(label, mask, "multiclass", 4)
    counts = torch.stack([(label == c).sum() for c in range(4)]).float()
    torch.testing.assert_close(
        (weight * counts)[counts > 0], (mask.sum() / 4).expand(int((counts > 0).sum()))
    )
    assert torch.equal(weight[counts == 0], torch.ones(int((counts == 0).sum())))


@given(labels=st.lists(st.sampled_from([0, 0, 1, math.nan]), min_size=1, max_size=40))
def test_balanced_labels_weigh_the_same_yes_and_no(labels):
    label = torch.tensor(labels, dtype=torch.float32)[:, None]
    weight = balanced_class_weights(label, label.isfinite(), "multilabel", 1)
    yes, no = (label == 1).sum(), (label == 0).sum()
    assert (weight * yes).item() == pytest.approx(no.item()) if yes and no else weight.item() == 1


@pytest.mark.parametrize("task_type", ["multiclass", "ordinal"])
def test_balanced_is_what_sklearn_calls_balanced(task_type):
    logits, label = torch.randn(40, 3), torch.tensor([0] * 5 + [1] * 30 + [2] * 5)
    weight = balanced_class_weights(label, None, task_type, 3)
    known = compute_class_weight("balanced", classes=np.arange(3), y=label.numpy())
    np.testing.assert_allclose(weight, known, rtol=1e-6)
    probs = logits.double().softmax(-1).numpy()
    expected = log_loss(label.numpy(), probs, sample_weight=known[label])
    assert TaskLoss(task_type, weight)(logits, label).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("task_type", ["regression", "survival"])
def test_what_has_no_classes_cannot_be_balanced(task_type):
    with pytest.raises(ValueError, match="no classes"):
        balanced_class_weights(torch.zeros(3), None, task_type, 1)


@pytest.mark.parametrize("task_type", ["binary", "multilabel"])
def test_one_weight_a_class(task_type):
    label = torch.zeros(4, 2) if task_type == "multilabel" else torch.zeros(4)
    with pytest.raises(ValueError, match="3 numbers for 2 classes"):
        TaskLoss(task_type, class_weight=torch.ones(3))(torch.zeros(4, 2), label)


def test_balanced_weights_pull_the_constant_predictor_to_one_half():
    """The best constant under balanced weights is indifferent, however rare the class."""
    label = torch.tensor([0] * 19 + [1])
    loss = TaskLoss("binary", class_weight=balanced_class_weights(label, None, "binary", 2))
    logits = torch.zeros(1, 2, requires_grad=True)
    loss(logits.expand(20, 2), label).backward()
    torch.testing.assert_close(logits.grad, torch.zeros(1, 2), atol=1e-6, rtol=0)
