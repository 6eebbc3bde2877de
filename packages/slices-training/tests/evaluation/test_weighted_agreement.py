"""Weighted metrics agree with scikit-learn or torchmetrics, where neither has them with a literal version.

Order, copies and rows without weight do not matter to any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression
from torchmetrics.functional import classification as tm

from slices.training.evaluation import calibration, operating, quantiles, weighted

Array = NDArray[Any]
Reference = Callable[[Array, Array, Array], float]
T = 0.4


def repeated(reference: Callable[[Array, Array], float]) -> Reference:
    """One that knows no weights: rows are written out as often as they weigh."""
    return lambda y, p, w: reference(*(np.repeat(part, w.astype(int)) for part in (y, p)))


def literal_net_benefit(y: Array, p: Array, w: Array) -> float:
    treated = [row for row in zip(y, p, w, strict=True) if row[1] >= T]
    return sum(weight if label else -weight * T / (1 - T) for label, _, weight in treated) / w.sum()


def literal_min_se_ppv(y: Array, p: Array, w: Array) -> float:
    precision, recall, _ = sk.precision_recall_curve(y, p, sample_weight=w)
    return float(np.minimum(precision, recall).max())


def tm_sensitivity_at_specificity(y: Array, p: Array) -> float:
    found, _ = tm.binary_sensitivity_at_specificity(torch.tensor(p), torch.tensor(y).long(), 0.5)
    return float(found)


REFERENCES: dict[str, tuple[Callable[..., Array], Reference]] = {
    "rmse": (weighted.rmse, lambda y, p, w: sk.root_mean_squared_error(y, p, sample_weight=w)),
    "brier": (calibration.brier, lambda y, p, w: sk.brier_score_loss(y, p, sample_weight=w)),
    "log_loss": (calibration.log_loss, lambda y, p, w: sk.log_loss(y, p, sample_weight=w)),
    "f1": (partial(operating.f1, threshold=T), lambda y, p, w: sk.f1_score(y, p >= T, sample_weight=w)),
    "accuracy_at": (
        partial(operating.accuracy_at, threshold=T),
        lambda y, p, w: sk.accuracy_score(y, p >= T, sample_weight=w),
    ),
    "sensitivity": (
        partial(operating.sensitivity, threshold=T),
        lambda y, p, w: sk.recall_score(y, p >= T, sample_weight=w),
    ),
    "specificity": (
        partial(operating.specificity, threshold=T),
        lambda y, p, w: sk.recall_score(y, p >= T, sample_weight=w, pos_label=0),
    ),
    "ppv": (
        partial(operating.ppv, threshold=T),
        lambda y, p, w: sk.precision_score(y, p >= T, sample_weight=w, zero_division=np.nan),
    ),
    "net_benefit": (partial(operating.net_benefit, threshold=T), literal_net_benefit),
    "min_se_ppv": (operating.min_se_ppv, literal_min_se_ppv),
    "sensitivity_at_specificity": (
        partial(operating.sensitivity_at_specificity, specificity=0.5),
        repeated(tm_sensitivity_at_specificity),
    ),
    "quantile_coverage": (quantiles.quantile_coverage, lambda y, p, w: float(np.average(y <= p, weights=w))),
    "pinball_loss": (
        partial(quantiles.pinball_loss, level=0.3),
        lambda y, p, w: sk.mean_pinball_loss(y, p, sample_weight=w, alpha=0.3),
    ),
}
ROWS = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=30)


def arrays(rows: list[tuple[int, int, int]]) -> tuple[Array, Array, Array]:
    """Both classes are there, on both sides of the threshold; others tie, and may weigh nothing."""
    score, label, weight = np.array([*rows, (2, 0, 1), (3, 1, 1), (7, 1, 2), (8, 0, 1)], dtype=float).T
    return score / 10, label, weight


@pytest.mark.parametrize("name", REFERENCES)
@given(rows=ROWS)
@settings(max_examples=25, deadline=None)
def test_agrees_with_the_reference(name: str, rows: list[tuple[int, int, int]]) -> None:
    metric, reference = REFERENCES[name]
    score, label, weight = arrays(rows)
    result = metric(score, label, np.stack([weight, np.ones_like(weight)]))
    expected = [reference(label, score, w) for w in (weight, np.ones_like(weight))]
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)


OTHERS = {
    "calibration_error": partial(calibration.calibration_error, n_bins=4),
    "calibration_slope": calibration.calibration_slope,
    "calibration_intercept": calibration.calibration_intercept,
    "calibration_in_the_large": calibration.calibration_in_the_large,
}
ALL = {name: metric for name, (metric, _) in REFERENCES.items()} | OTHERS


@pytest.mark.parametrize("name", ALL)
@given(rows=ROWS, seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_order_copies_and_rows_without_weight_do_not_matter(
    name: str, rows: list[tuple[int, int, int]], seed: int
) -> None:
    metric = ALL[name]
    score, label, weight = arrays(rows)
    expected = metric(score, label, weight[None])
    order = np.random.default_rng(seed).permutation(len(score))
    np.testing.assert_allclose(metric(score[order], label[order], weight[None, order]), expected, atol=1e-7)
    np.testing.assert_allclose(metric(score, label, 3 * weight[None]), expected, atol=1e-7)
    copies = np.repeat(np.arange(len(score)), weight.astype(int))
    written_out = metric(score[copies], label[copies], np.ones((1, len(copies))))
    np.testing.assert_allclose(written_out, expected, atol=1e-7)


def draw(n: int = 400, classes: int = 3, seed: int = 0) -> tuple[Array, Array, Array]:
    generator = np.random.default_rng(seed)
    prob = generator.dirichlet(np.ones(classes), size=n)
    label = np.array([generator.choice(classes, p=p) for p in prob])
    return prob, label, generator.integers(0, 4, size=(2, n)).astype(float)


@pytest.mark.parametrize(
    ("metric", "reference"),
    [
        (calibration.brier, sk.brier_score_loss),
        (calibration.log_loss, sk.log_loss),
        (
            operating.macro_f1,
            lambda y, p, sample_weight: sk.f1_score(
                y, p.argmax(1), sample_weight=sample_weight, average="macro"
            ),
        ),
    ],
)
def test_classes_agree_with_scikit_learn(metric: Any, reference: Any) -> None:
    prob, label, weight = draw()
    expected = [reference(label, prob, sample_weight=w) for w in weight]
    np.testing.assert_allclose(metric(prob, label, weight), expected)


@pytest.mark.parametrize("metric", [calibration.brier, calibration.log_loss, calibration.calibration_error])
def test_labels_are_averaged_and_missing_ones_left_out(metric: Any) -> None:
    prob, _, weight = draw()
    label = (np.random.default_rng(1).random(prob.shape) < prob).astype(float)
    label[:100, 1] = np.nan
    each = [metric(prob[k:, c], label[k:, c], weight[:, k:]) for c, k in ((0, 0), (1, 100), (2, 0))]
    np.testing.assert_allclose(metric(prob, label, weight), np.mean(each, axis=0))


def test_equal_mass_is_equal_width_where_scores_are_spread_evenly() -> None:
    """... and there torchmetrics, whose bins have equal width, agrees."""
    score = (np.arange(200) + 0.5) / 200
    label = (np.random.default_rng(0).random(200) < score**2).astype(float)
    expected = tm.binary_calibration_error(torch.tensor(score), torch.tensor(label).long(), n_bins=10)
    error = calibration.calibration_error(score, label, np.ones((1, 200)))
    np.testing.assert_allclose(error, [float(expected)], rtol=1e-5)


def test_classes_are_calibrated_by_the_likeliest_one() -> None:
    prob, label, weight = draw()
    top = calibration.calibration_error(prob.max(1), (prob.argmax(1) == label).astype(float), weight)
    np.testing.assert_allclose(calibration.calibration_error(prob, label, weight), top)


def test_the_curve_holds_the_error() -> None:
    prob, label, _ = draw(classes=2)
    curve = calibration.calibration_curve(prob[:, 1], label)
    assert curve.rows.sum() == 400 and set(curve.rows) == {40}
    error = (curve.rows * np.abs(curve.observed - curve.predicted)).sum() / 400
    np.testing.assert_allclose(error, calibration.calibration_error(prob[:, 1], label, np.ones((1, 400))))


def test_slope_agrees_with_logistic_regression() -> None:
    prob, label, weight = draw(classes=2)
    logit = calibration.to_logit(prob[:, 1])[:, None]
    fits = [LogisticRegression(C=np.inf, tol=1e-10).fit(logit, label, sample_weight=w) for w in weight]
    expected = [fit.coef_[0, 0] for fit in fits]
    np.testing.assert_allclose(calibration.calibration_slope(prob[:, 1], label, weight), expected, rtol=1e-4)


def test_the_intercept_makes_the_mean_right() -> None:
    prob, label, weight = draw(classes=2)
    off = 1 / (1 + np.exp(-calibration.to_logit(prob[:, 1]) - 1.3))
    intercept = calibration.calibration_intercept(off, label, weight)
    mended = 1 / (1 + np.exp(-calibration.to_logit(off) - intercept[:, None]))
    np.testing.assert_allclose((weight * mended).sum(1), (weight * label).sum(1))
    np.testing.assert_allclose(intercept, -1.3, atol=0.5)


@pytest.mark.parametrize("only", [0.0, 1.0])
def test_one_class_alone_defines_no_slope(only: float) -> None:
    prob, label = np.linspace(0.1, 0.9, 9), np.full(9, only)
    for metric in (calibration.calibration_slope, calibration.calibration_intercept):
        assert np.isnan(metric(prob, label, np.ones((1, 9)))).all()
    assert np.isnan(calibration.calibration_slope(np.full(9, 0.3), np.arange(9) % 2, np.ones((1, 9)))).all()
    assert np.isnan(calibration.calibration_slope(prob, (prob > 0.5) * 1.0, np.ones((1, 9)))).all()


def test_one_class_alone_leaves_what_needs_two_undefined() -> None:
    score, ones = np.linspace(0.1, 0.9, 9), np.ones((1, 9))
    assert np.isnan(operating.min_se_ppv(score, np.zeros(9), ones)).all()
    assert np.isnan(operating.sensitivity_at_specificity(score, np.zeros(9), ones)).all()
    assert np.isnan(operating.sensitivity_at_specificity(score, np.ones(9), ones)).all()


def test_probabilities_of_0_and_1_have_a_finite_loss() -> None:
    loss = calibration.log_loss(np.array([0.0, 1.0]), np.array([1, 1]), np.ones((1, 2)))
    np.testing.assert_allclose(loss, -np.log(calibration.LEAST) / 2)


def test_r2_of_labels_far_from_0_and_of_labels_all_alike() -> None:
    rng = np.random.default_rng(0)
    label = 1e8 + rng.normal(size=50)
    prediction = label + 0.1 * rng.normal(size=50)
    np.testing.assert_allclose(
        weighted.r2(prediction, label, np.ones((1, 50))), [sk.r2_score(label, prediction)]
    )
    alike = np.array([0.1, 0.1, 0.1, 3.0])
    assert np.isnan(weighted.r2(alike + 1, alike, np.array([[3.0, 1.0, 0.0, 0.0]]))).all()
