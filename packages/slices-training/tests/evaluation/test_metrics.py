"""Task metrics agree with scikit-learn, leave missing labels out, and survive what defines no metric."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor

from slices.heads import predictions
from slices.training.evaluation.metrics import metric_names, task_metrics, task_scores

TASKS = {"binary": 2, "multiclass": 3, "multilabel": 3, "regression": 1}


def draw(task_type: str, n: int = 60, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions, labels and a mask; predictions with ties, missing labels NaN."""
    generator = torch.Generator().manual_seed(seed)
    width = TASKS[task_type]
    logits = torch.randn(n, width, generator=generator).mul(2).round() / 2
    if task_type == "regression":
        label = torch.randn(n, generator=generator)
    elif task_type == "multilabel":
        label = torch.randint(2, (n, width), generator=generator).float()
    else:
        label = torch.randint(width, (n,), generator=generator).float()
    mask = torch.rand(label.shape, generator=generator) < 0.7
    return predictions(logits, task_type), label.masked_fill(~mask, math.nan), mask


def by_sklearn(task_type: str, probs: np.ndarray, label: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    if task_type == "regression":
        y, p = label[mask], probs[mask, 0]
        return {
            "mse": sk.mean_squared_error(y, p),
            "mae": sk.mean_absolute_error(y, p),
            "r2": sk.r2_score(y, p),
        }
    if task_type == "multilabel":
        columns = [(label[m, c], probs[m, c], probs[m, c] >= 0.5) for c, m in enumerate(mask.T)]
        right = np.concatenate([y == guess for y, _, guess in columns])
    else:
        y, p = label[mask], probs[mask]
        right = y == p.argmax(1)
        classes = [1] if task_type == "binary" else range(p.shape[1])
        columns = [(y == c, p[:, c], p.argmax(1) == c) for c in classes]
    return {
        "accuracy": right.mean(),
        "auroc": np.mean([sk.roc_auc_score(y, p) for y, p, _ in columns]),
        "auprc": np.mean([sk.average_precision_score(y, p) for y, p, _ in columns]),
        "f1": np.mean([sk.f1_score(y, guess) for y, _, guess in columns]),
    }


@pytest.mark.parametrize("task_type", TASKS)
def test_agrees_with_scikit_learn(task_type):
    probs, label, mask = draw(task_type)
    scores = task_scores(task_type, probs, label, mask)
    expected = by_sklearn(task_type, probs.numpy(), label.numpy(), mask.numpy())
    assert tuple(scores) == metric_names(task_type)
    assert {name: value.item() for name, value in scores.items()} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("task_type", TASKS)
def test_batches_add_up(task_type):
    probs, label, mask = draw(task_type)
    metrics = task_metrics(task_type)
    for rows in torch.arange(60).split(25):
        metrics.update(probs[rows], label[rows], mask[rows])
    torch.testing.assert_close(metrics.compute(), task_scores(task_type, probs, label, mask))
    metrics.reset()
    metrics.update(probs[:30], label[:30], mask[:30])
    torch.testing.assert_close(metrics.compute(), task_scores(task_type, probs[:30], label[:30], mask[:30]))


@pytest.mark.parametrize("task_type", TASKS)
def test_a_label_a_step_counts_like_a_label_a_stay(task_type):
    probs, label, mask = draw(task_type)
    metrics = task_metrics(task_type)
    metrics.update(probs.unflatten(0, (12, 5)), label.unflatten(0, (12, 5)), mask.unflatten(0, (12, 5)))
    torch.testing.assert_close(metrics.compute(), task_scores(task_type, probs, label, mask))


def test_without_a_mask_every_label_counts():
    probs, label, _ = draw("binary")
    label = label.nan_to_num(0).long()
    metrics = task_metrics("binary")
    metrics.update(probs, label)
    torch.testing.assert_close(metrics.compute(), task_scores("binary", probs, label, torch.ones(60).bool()))


@pytest.mark.parametrize("only", [0, 1])
def test_one_class_alone_has_an_accuracy_but_no_auroc(only):
    probs, label, _ = draw("binary")
    scores = task_scores("binary", probs, torch.full_like(label, only))
    assert 0 < scores["accuracy"] < 1
    assert scores["auroc"].isnan()
    assert scores["auprc"].isnan() if only == 0 else scores["auprc"] == 1


def test_a_class_that_does_not_occur_is_left_out_of_the_mean():
    probs, label, mask = draw("multilabel")
    label[:, 1], mask[:, 1] = 0.0, True
    others = task_scores("multilabel", probs[:, [0, 2]], label[:, [0, 2]], mask[:, [0, 2]])
    scores = task_scores("multilabel", probs, label, mask)
    torch.testing.assert_close(scores["auroc"], others["auroc"])
    torch.testing.assert_close(scores["auprc"], others["auprc"])


@pytest.mark.parametrize("task_type", TASKS)
def test_no_label_gives_nan_and_not_an_error(task_type):
    probs, label, mask = draw(task_type)
    scores = task_scores(task_type, probs, label, torch.zeros_like(mask))
    assert all(value.isnan() for value in scores.values())


def test_two_classes_of_a_multiclass_task_are_both_of_interest():
    probs, label, mask = draw("binary")
    binary, multiclass = (task_scores(kind, probs, label, mask) for kind in ("binary", "multiclass"))
    flipped = task_scores("binary", probs.flip(1), 1 - label, mask)
    torch.testing.assert_close(multiclass["auprc"], (binary["auprc"] + flipped["auprc"]) / 2)
    assert not torch.isclose(multiclass["auprc"], binary["auprc"])
