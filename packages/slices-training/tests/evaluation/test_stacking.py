"""Baselines that learn further tasks: these are asked out of fold, and few labels do no harm."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from slices.training.evaluation.baselines import fit_baseline
from slices.training.evaluation.stacking import Labels, Stacked, fit_stacked

NAME = "logistic_regression"


def drawn(n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, a rare and noisy label, and the clear one that it follows."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(n, 30))
    severity = features[:, :3].sum(1)
    rare = severity + 2.0 * generator.normal(size=n) > 3.5
    return features, rare.astype(float), np.digitize(severity, [-1.0, 1.0]).astype(float)


def labels(label: np.ndarray, task_type: str = "binary", n_classes: int = 2, there: float = 1.0) -> Labels:
    mask = np.random.default_rng(1).random(len(label)) < there
    return Labels(label, mask, task_type, n_classes)  # type: ignore[arg-type]


@pytest.mark.parametrize("there", [1.0, 0.8])
@pytest.mark.parametrize("name", [NAME, "lightgbm"])
def test_a_further_task_helps_one_with_few_events(name, there, monkeypatch):
    monkeypatch.setattr("slices.training.evaluation.baselines.N_TREES", 60)
    features, rare, severity = drawn(2000)
    train, test = slice(0, 200), slice(200, None)
    first, other = labels(rare[train]), labels(severity[train], "multiclass", 3, there)
    alone = fit_stacked(name, features[train], first, {}, np.arange(200))
    both = fit_stacked(name, features[train], first, {"severity": other}, np.arange(200))
    scores = [roc_auc_score(rare[test], model.predict(features[test])[:, 1]) for model in (alone, both)]
    assert scores[1] > scores[0] + 0.01
    assert both.chosen


def test_training_rows_are_asked_out_of_fold(monkeypatch):
    """Whole patients at a time: no row is asked of a model that has seen it or another row of its patient."""
    features, rare, severity = drawn()
    group = np.arange(400) // 2
    features[:, -1] = group
    asked = []

    class Noting:
        def __init__(self, rows):
            self.seen, self.chosen = set(rows[:, 29]), [{}]

        def predict(self, rows):
            asked.append(self.seen & set(rows[:, 29]))
            return np.zeros((len(rows), 3))

    monkeypatch.setattr(
        "slices.training.evaluation.stacking.fit_baseline", lambda name, rows, *_, **__: Noting(rows)
    )
    fit_stacked(NAME, features, labels(rare), {"severity": labels(severity, "multiclass", 3)}, group)
    assert len(asked) == 5 and not any(asked)


def test_only_the_last_baseline_is_tuned(monkeypatch):
    features, rare, severity = drawn(200)
    tuned = []

    def noting(*given, tune, **options):
        tuned.append(tune)
        return fit_baseline(*given, **options)

    monkeypatch.setattr("slices.training.evaluation.stacking.fit_baseline", noting)
    other = {"severity": labels(severity, "multiclass", 3)}
    fit_stacked(NAME, features, labels(rare), other, np.arange(200), tune=True)
    assert tuned[-1] and not any(tuned[:-1]) and len(tuned) == 7


@pytest.mark.parametrize(
    ("n_events", "known"), [(1, 200), (50, 0), (50, 1)], ids=["no folds", "no label", "one label"]
)
def test_a_task_that_cannot_be_learnt_is_left_out(n_events, known):
    features, _, severity = drawn(200)
    label = (np.arange(200) < n_events).astype(float)
    other = Labels(severity, np.arange(200) < known, "multiclass", 3)
    model = fit_stacked(NAME, features, labels(label), {"severity": other}, np.arange(200))
    expected = fit_baseline(NAME, features, label, "binary")
    assert not isinstance(model, Stacked)
    np.testing.assert_allclose(model.predict(features), expected.predict(features))
