"""The probe agrees with scikit-learn, chooses its strength within the training rows, and bears few labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from slices.training.evaluation.folds import stratified_folds
from slices.training.evaluation.probe import STRENGTHS, fit_probe

TASKS = ["binary", "multiclass", "multilabel", "regression"]


def draw(task_type: str, n: int = 200) -> tuple[Tensor, Tensor]:
    """Correlated features of very different scales, and labels that depend on them."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(n, 3, generator=generator)
    features = hidden @ torch.randn(3, 12, generator=generator) + 0.3 * torch.randn(
        n, 12, generator=generator
    )
    noisy = hidden + 0.5 * torch.randn(n, 3, generator=generator)
    label = {
        "binary": (noisy[:, 0] > 0.8).long(),
        "multiclass": noisy.argmax(1),
        "multilabel": (noisy > 0.5).float(),
        "regression": noisy[:, 0],
    }[task_type]
    return 10.0 ** torch.arange(-4, 8) * (features + 5), label


def by_sklearn(task_type: str, x: np.ndarray, label: np.ndarray, strength: float) -> np.ndarray:
    scaled = StandardScaler().fit_transform(x.astype(np.float64))
    if task_type == "regression":
        return Ridge(alpha=strength).fit(scaled, label).predict(scaled)[:, None]
    model = LogisticRegression(C=1 / strength, tol=1e-12, max_iter=100_000)
    if task_type == "multilabel":
        return np.stack([model.fit(scaled, y).predict_proba(scaled)[:, 1] for y in label.T], axis=1)
    return model.fit(scaled, label).predict_proba(scaled)


@pytest.mark.parametrize("task_type", TASKS)
@pytest.mark.parametrize("strength", [0.1, 10.0, 1e4])
def test_agrees_with_scikit_learn(task_type, strength):
    features, label = draw(task_type)
    probe = fit_probe(features, label, task_type, n_classes=3, strengths=[strength])
    expected = by_sklearn(task_type, features.numpy(), label.numpy(), strength)
    np.testing.assert_allclose(probe.predict(features).numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("task_type", TASKS)
def test_agrees_with_scikit_learn_on_more_features_than_rows(task_type):
    features, label = draw(task_type, n=40)
    wide = torch.cat([features, torch.randn(40, 90, generator=torch.Generator().manual_seed(1))], dim=1)
    probe = fit_probe(wide, label, task_type, n_classes=3, strengths=[10.0])
    expected = by_sklearn(task_type, wide.numpy(), label.numpy(), 10.0)
    np.testing.assert_allclose(probe.predict(wide).numpy(), expected, atol=2e-6)


def test_the_strength_is_the_best_of_a_literal_cross_validation():
    features, label = draw("binary", n=120)
    label[::6] = 1 - label[::6]  # noise, so that neither end of the grid is the best
    x = (features - features.mean(0)) / features.std(0, correction=0)
    fold = stratified_folds(label, torch.arange(120), 5, seed=0)
    losses = []
    for strength in STRENGTHS:
        total = 0.0
        for k in range(5):
            model = LogisticRegression(C=1 / strength, tol=1e-10, max_iter=10_000)
            model.fit(x[fold != k].numpy(), label[fold != k].numpy())
            held_out = model.predict_log_proba(x[fold == k].numpy())
            total -= held_out[np.arange(24), label[fold == k].numpy()].sum()
        losses.append(total)
    chosen = fit_probe(features, label, "binary").strength
    assert chosen == (STRENGTHS[int(np.argmin(losses))],)
    assert STRENGTHS[0] > chosen[0] > STRENGTHS[-1]


@pytest.mark.parametrize("task_type", TASKS)
def test_units_and_the_order_of_rows_do_not_matter(task_type):
    features, label = draw(task_type)
    expected = fit_probe(features, label, task_type, n_classes=3, strengths=[1.0]).predict(features)
    order = torch.randperm(200)
    other = fit_probe(features[order] * 7 - 3, label[order], task_type, n_classes=3, strengths=[1.0])
    torch.testing.assert_close(other.predict(features * 7 - 3), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("task_type", TASKS)
def test_missing_labels_are_as_if_the_row_was_not_there(task_type):
    features, label = draw(task_type)
    mask = torch.ones_like(label, dtype=torch.bool)
    mask[150:] = False
    label = label.double().masked_fill(~mask, math.nan)
    features[170:] = math.inf
    masked = fit_probe(features, label, task_type, n_classes=3, label_mask=mask)
    left_out = fit_probe(features[:150], label[:150], task_type, n_classes=3)
    torch.testing.assert_close(masked.predict(features[:150]), left_out.predict(features[:150]))


def test_each_label_has_its_own_missing_ones_and_its_own_strength():
    features, label = draw("multilabel")
    mask = torch.rand(label.shape) < 0.8
    mask[:, 0] = True
    together = fit_probe(features, label, "multilabel", label_mask=mask)
    alone = fit_probe(features, label[:, 0], "binary")
    assert together.strength[0] == alone.strength[0]
    torch.testing.assert_close(together.predict(features)[:, 0], alone.predict(features)[:, 1])


def test_a_background_gives_the_weights_a_normal_prior():
    """Of a ridge regression: (X'X + strength P) w = X'y, P the inverse of the scaled correlation."""
    features, label = draw("regression")
    few, strength = slice(0, 30), 3.0
    probe = fit_probe(features[few], label[few], "regression", strengths=[strength], background=features)
    x = features.double()
    x = (x - x.mean(0)) / x.std(0, correction=0)
    correlation = x.T @ x / len(x)
    variance = torch.linalg.eigvalsh(correlation)
    prior = correlation * variance.sum() / variance.square().sum()
    centred, y = x[few] - x[few].mean(0), label[few].double() - label[few].double().mean()
    weight = torch.linalg.solve(centred.T @ centred + strength * prior.inverse(), centred.T @ y)
    expected = (x - x[few].mean(0)) @ weight + label[few].double().mean()
    torch.testing.assert_close(probe.predict(features)[:, 0], expected, atol=1e-6, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("task_type", ["binary", "regression"])
def test_with_few_labels_a_background_helps_where_labels_follow_what_varies_most(task_type):
    """Thirty noisy readings of one severity, twenty of four hundred labelled; the mean of ten draws."""
    generator = torch.Generator().manual_seed(0)
    severity = torch.randn(400, generator=generator)
    features = severity[:, None] + 2 * torch.randn(400, 30, generator=generator)
    label = (severity > 0).long() if task_type == "binary" else severity
    right = {"isotropic": 0.0, "covariance": 0.0}
    for _ in range(10):
        few, others = torch.randperm(400, generator=generator).tensor_split([20])
        for name, background in (("isotropic", None), ("covariance", features)):
            probe = fit_probe(features[few], label[few], task_type, background=background)
            predicted = probe.predict(features[others])[:, -1]
            right[name] += (
                float(torch.corrcoef(torch.stack([predicted, severity[others].double()]))[0, 1]) / 10
            )
    assert right["covariance"] > right["isotropic"] + 0.01


def test_a_background_of_equal_rows_says_nothing():
    features, label = torch.ones(20, 4), torch.arange(20) % 2
    probs = fit_probe(features, label, "binary", background=features).predict(features)
    torch.testing.assert_close(probs, torch.full((20, 2), 0.5, dtype=torch.float64))


def test_the_same_input_gives_the_same_probe():
    features, label = draw("multiclass")
    one, other = (fit_probe(features, label, "multiclass", n_classes=3) for _ in range(2))
    assert torch.equal(one.weight, other.weight) and one.strength == other.strength


def test_a_constant_feature_is_harmless_when_it_moves():
    features, label = draw("binary")
    expected = fit_probe(features, label, "binary").predict(features)
    constant = torch.cat([features, torch.full((200, 1), 0.1)], dim=1)
    probe = fit_probe(constant, label, "binary")
    constant[:, -1] += 1
    torch.testing.assert_close(probe.predict(constant), expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(("positives", "n"), [(0, 10), (1, 10), (2, 10), (10, 10), (1, 1)])
def test_few_labels_give_finite_probabilities(positives, n):
    features, _ = draw("binary", n=n)
    label = (torch.arange(n) < positives).long()
    probs = fit_probe(features, label, "binary").predict(features)
    assert bool(probs.isfinite().all())
    torch.testing.assert_close(probs.sum(1), torch.ones(n).double())
    assert probs[:, 1].mean().item() == pytest.approx(positives / n, abs=1e-4)


def test_a_class_without_a_label_gets_probability_zero():
    features, label = draw("multiclass")
    probs = fit_probe(features, label * 2, "multiclass", n_classes=6).predict(features)
    assert torch.equal(probs.amax(0) > 0, torch.tensor([True, False, True, False, True, False]))
    expected = fit_probe(features, label, "multiclass", n_classes=3).predict(features)
    torch.testing.assert_close(probs[:, [0, 2, 4]], expected)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"features": torch.full((20, 2), math.nan)}, "not finite"),
        ({"features": torch.zeros(19, 2)}, "19 rows"),
        ({"label": torch.zeros(20, 2)}, "one label a row"),
        ({"label_mask": torch.zeros(20).bool()}, "no label"),
        ({"strengths": [1.0, 0.0]}, "above 0"),
        ({"strengths": []}, "at least one"),
    ],
)
def test_bad_input_is_refused(change, said):
    arguments = {"features": torch.randn(20, 2), "label": torch.zeros(20), "task_type": "binary", **change}
    with pytest.raises(ValueError, match=said):
        fit_probe(**arguments)


@given(
    strata=st.lists(st.integers(0, 2), min_size=1, max_size=60),
    n_folds=st.integers(2, 6),
    seed=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_folds_spread_every_stratum_and_size_evenly(strata, n_folds, seed):
    strata = torch.tensor(strata)
    fold = stratified_folds(strata, torch.arange(len(strata)), n_folds, seed)
    sizes = torch.bincount(strata)
    sizes = sizes[sizes > 0]
    if fold is None:
        assert (sizes >= 2).sum() < min(len(sizes), 2)
        return
    n = int(fold.max()) + 1
    assert n == min(n_folds, int(sizes[sizes >= 2].min()))
    for rows in [torch.ones_like(strata).bool(), *(strata == value for value in strata.unique())]:
        spread = torch.bincount(fold[rows], minlength=n)
        assert spread.max() - spread.min() <= 1


def test_folds_keep_groups_whole():
    group = torch.arange(40) // 4
    strata = (torch.arange(40) % 8 == 0).long()
    fold = stratified_folds(strata, group, 5, seed=0).view(10, 4)
    assert torch.equal(fold, fold[:, :1].expand_as(fold))
    assert torch.equal(torch.bincount(fold[::2, 0], minlength=5), torch.ones(5).long())


def test_groups_that_all_reach_the_highest_stratum_are_folded_all_the_same():
    """One label a step, and every patient has a positive step."""
    fold = stratified_folds(torch.arange(40) % 4 == 3, torch.arange(40) // 4, 5, seed=0)
    assert torch.equal(torch.bincount(fold), torch.full((5,), 8))
