"""Baselines learn every type of task, bear what real tables hold, and need no extra until they are used."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.metrics import r2_score, roc_auc_score

from slices.training.evaluation.baselines import BASELINES, fit_baseline

TASKS = ["binary", "multiclass", "multilabel", "regression"]


@pytest.fixture(params=BASELINES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def small_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slices.training.evaluation.baselines.N_TREES", 200)


def draw(task_type: str, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Features with holes, heavy tails, a constant and an empty column; labels follow the first three."""
    generator = np.random.default_rng(0)
    hidden = generator.normal(size=(n, 3))
    noise = generator.standard_cauchy(size=(n, 4))
    features = np.concatenate([hidden, noise, np.ones((n, 1)), np.full((n, 1), np.nan)], axis=1)
    features[:, :7][generator.random((n, 7)) < 0.1] = np.nan
    label = {
        "binary": hidden[:, 0] > 0.5,
        "multiclass": hidden.argmax(1),
        "multilabel": hidden > 0.5,
        "regression": hidden[:, 0] + hidden[:, 1],
    }[task_type]
    return features.astype(np.float32), label.astype(float)


@pytest.mark.parametrize("task_type", TASKS)
def test_learns_and_predicts_what_a_head_would(name, task_type):
    features, label = draw(task_type)
    model = fit_baseline(name, features[:200], label[:200], task_type, n_classes=3)
    probs, truth = model.predict(features[200:]), label[200:]
    assert probs.shape == (100, {"binary": 2, "regression": 1}.get(task_type, 3))
    if task_type == "regression":
        assert r2_score(truth, probs[:, 0]) > 0.4
        return
    if task_type != "multilabel":
        np.testing.assert_allclose(probs.sum(1), 1)
        truth = truth[:, None] == ([1] if task_type == "binary" else [0, 1, 2])
        probs = probs[:, -truth.shape[1] :]
    assert np.mean([roc_auc_score(y, p) for y, p in zip(truth.T, probs.T, strict=True)]) > 0.8


@pytest.mark.parametrize("task_type", TASKS)
def test_missing_labels_are_as_if_the_row_was_not_there(name, task_type):
    features, label = draw(task_type)
    mask = np.ones(label.shape, dtype=bool)
    mask[200:] = False
    label[200:] = np.nan
    features[200:] *= 2
    masked = fit_baseline(name, features, label, task_type, n_classes=3, label_mask=mask)
    left_out = fit_baseline(name, features[:200], label[:200], task_type, n_classes=3)
    np.testing.assert_allclose(masked.predict(features[:200]), left_out.predict(features[:200]))


@pytest.mark.parametrize(("positives", "n"), [(1, 12), (6, 12), (0, 12)])
def test_few_labels_give_probabilities(name, positives, n):
    features, _ = draw("binary", n=n)
    probs = fit_baseline(name, features, np.arange(n) < positives, "binary").predict(features)
    assert ((probs >= 0) & (probs <= 1)).all()


def test_the_same_input_gives_the_same_predictions(name):
    features, label = draw("binary")
    one, other = (fit_baseline(name, features, label, "binary").predict(features) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_tuning_may_take_more_trees_than_the_settings_have(monkeypatch):
    monkeypatch.setattr("slices.training.baseline.tuning.LEAVES", (3,))
    monkeypatch.setattr("slices.training.baseline.tuning.SHARES", (1.0,))
    generator = np.random.default_rng(0)
    features = generator.normal(size=(600, 4))
    label = 30 * np.sin(2 * features[:, 0]) + 5 * features[:, 1]
    model = fit_baseline("lightgbm", features, label, "regression", tune=True)
    assert model.chosen[0]["num_iterations"] > 200  # N_TREES here


def test_trees_learn_from_forty_stays():
    features, label = draw("binary")
    model = fit_baseline("lightgbm", features[:40], label[:40], "binary")
    assert roc_auc_score(label[40:], model.predict(features[40:])[:, 1]) > 0.7


def test_infinities_do_not_reach_the_linear_model():
    features, label = draw("binary", n=20)
    features[0, 3], features[1, 4] = np.inf, -np.inf
    assert np.isfinite(fit_baseline("logistic_regression", features, label, "binary").predict(features)).all()


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(ImportError, match=r"slices-training\[baselines\]"):
        fit_baseline("lightgbm", np.zeros((4, 1)), np.arange(4) > 1, "binary")


@pytest.mark.parametrize(
    ("change", "said"),
    [({"name": "lightgmb"}, "did you mean 'lightgbm'"), ({"label_mask": [False] * 4}, "no label")],
)
def test_bad_input_is_refused(change, said):
    arguments = {
        "name": "lightgbm",
        "features": np.zeros((4, 1)),
        "label": [0, 0, 1, 1],
        "task_type": "binary",
    }
    with pytest.raises(ValueError, match=said):
        fit_baseline(**{**arguments, **change})
