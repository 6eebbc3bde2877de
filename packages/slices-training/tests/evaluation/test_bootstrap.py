"""Weighted metrics agree with scikit-learn; intervals resample patients and cover what they should."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from slices.training.evaluation import weighted
from slices.training.evaluation.bootstrap import (
    Predictions,
    bootstrap_interval,
    paired_interval,
    patient_counts,
)

REFERENCES = {
    weighted.auroc: lambda y, p, w: sk.roc_auc_score(y, p, sample_weight=w),
    weighted.auprc: lambda y, p, w: sk.average_precision_score(y, p, sample_weight=w),
    weighted.accuracy: lambda y, p, w: sk.accuracy_score(y, p > 0.5, sample_weight=w),
    weighted.mse: lambda y, p, w: sk.mean_squared_error(y, p, sample_weight=w),
    weighted.mae: lambda y, p, w: sk.mean_absolute_error(y, p, sample_weight=w),
    weighted.r2: lambda y, p, w: sk.r2_score(y, p, sample_weight=w),
}


def draw(n: int = 300, seed: int = 0, informative: float = 1.0) -> Predictions:
    generator = np.random.default_rng(seed)
    label = (generator.random(n) < 0.3).astype(int)
    score = 1 / (1 + np.exp(-informative * label - generator.normal(size=n)))
    return Predictions(np.arange(n), np.arange(n), label, score)


@pytest.mark.parametrize("metric", REFERENCES, ids=lambda metric: metric.__name__)
@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=30)
)
@settings(max_examples=60, deadline=None)
def test_weighted_metrics_agree_with_scikit_learn(metric, rows):
    """Two positive and two negative rows are there; the others tie, vary in weight, and may weigh nothing."""
    score, label, weight = np.array([*rows, (0, 0, 1), (1, 0, 1), (1, 1, 1), (3, 1, 2)], dtype=float).T
    score = score / 5
    result = metric(score, label, np.stack([weight, np.ones_like(weight)]))
    expected = [REFERENCES[metric](label, score, w) for w in (weight, np.ones_like(weight))]
    np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("metric", [weighted.auroc, weighted.auprc])
def test_columns_are_averaged_where_they_are_defined(metric):
    generator = np.random.default_rng(0)
    score, label = generator.random((40, 3)), generator.integers(0, 2, size=(40, 3)).astype(float)
    label[:, 1] = 0
    label[:5, 2] = np.nan
    each = [REFERENCES[metric](label[k:, c], score[k:, c], None) for c, k in ((0, 0), (2, 5))]
    assert metric(score, label, np.ones((1, 40)))[0] == pytest.approx(np.mean(each))


def test_classes_are_each_set_against_the_rest():
    generator = np.random.default_rng(0)
    score, label = generator.dirichlet(np.ones(3), size=40), generator.integers(0, 3, size=40)
    expected = sk.roc_auc_score(label, score, multi_class="ovr")
    assert weighted.auroc(score, label, np.ones((1, 40)))[0] == pytest.approx(expected)
    assert weighted.accuracy(score, label, np.ones((1, 40)))[0] == np.mean(score.argmax(1) == label)


@pytest.mark.parametrize("only", [0, 1])
def test_one_class_alone_is_undefined(only):
    label = np.full(5, only)
    assert np.isnan(weighted.auroc(np.arange(5.0), label, np.ones((2, 5)))).all()
    assert np.isnan(bootstrap_interval(weighted.auroc, draw(5)._replace(label=label), n_resamples=10)).all()


def test_resamples_repeat_and_differ_by_seed():
    run = draw()
    assert bootstrap_interval(weighted.auroc, run) == bootstrap_interval(weighted.auroc, run)
    assert bootstrap_interval(weighted.auroc, run) != bootstrap_interval(weighted.auroc, run, seed=1)


def test_the_interval_of_a_mean_is_the_textbook_one():
    """The mean of one error a patient: estimate ± 1.96 standard errors."""
    run = draw(400)
    errors = (run.prediction - run.label) ** 2
    interval = bootstrap_interval(weighted.mse, run, n_resamples=4000)
    assert interval.estimate == pytest.approx(errors.mean())
    half = 1.96 * errors.std() / 20
    assert interval.low == pytest.approx(errors.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(errors.mean() + half, abs=0.1 * half)


def test_the_literal_bootstrap_gives_the_same_distribution():
    run = draw(80)
    counts = np.concatenate(list(patient_counts(80, 200)))
    literal = [
        sk.roc_auc_score(*(np.repeat(a, c.astype(int)) for a in (run.label, run.prediction))) for c in counts
    ]
    interval = bootstrap_interval(weighted.auroc, run, n_resamples=200)
    np.testing.assert_allclose([interval.low, interval.high], np.quantile(literal, [0.025, 0.975]))


def test_rows_of_a_patient_stay_together():
    """Four copies of every patient add nothing: the interval is that of one copy, not half as wide."""
    run = draw(100)
    copies = Predictions(np.arange(400), *(np.repeat(part, 4) for part in run[1:]))
    np.testing.assert_allclose(
        bootstrap_interval(weighted.auroc, copies), bootstrap_interval(weighted.auroc, run)
    )
    naive = bootstrap_interval(weighted.auroc, copies._replace(patient_id=np.arange(400)))
    fair = bootstrap_interval(weighted.auroc, copies)
    assert naive.high - naive.low < 0.6 * (fair.high - fair.low)


def test_a_model_against_itself_differs_by_nothing():
    assert paired_interval(weighted.auprc, draw(), draw()) == (0.0, 0.0, 0.0)


def test_pairing_follows_row_ids_and_is_antisymmetric():
    run = draw()
    other = run._replace(prediction=run.prediction + np.random.default_rng(1).normal(size=300))
    forward = paired_interval(weighted.auroc, run, other)
    order = np.random.default_rng(2).permutation(300)
    shuffled = Predictions(*(part[order] for part in other))
    np.testing.assert_allclose(paired_interval(weighted.auroc, run, shuffled), forward)
    back = paired_interval(weighted.auroc, other, run)
    np.testing.assert_allclose((-back.estimate, -back.high, -back.low), forward)


def test_pairing_narrows_the_interval():
    run = draw()
    other = run._replace(prediction=run.prediction + 0.01 * np.random.default_rng(1).normal(size=300))
    paired = paired_interval(weighted.auroc, run, other)
    alone = bootstrap_interval(weighted.auroc, run)
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)


def test_several_draws_are_averaged_on_the_same_patients():
    """Draws with errors of their own: the mean over draws is surer than one, and equals the mean of each."""
    truth = draw(300)
    noisy = [
        truth._replace(prediction=truth.prediction + np.random.default_rng(k).normal(size=300))
        for k in range(8)
    ]
    each = [paired_interval(weighted.auroc, truth, run) for run in noisy]
    together = paired_interval(weighted.auroc, [truth] * 8, noisy)
    assert together.estimate == pytest.approx(np.mean([one.estimate for one in each]))
    assert together.high - together.low < 0.8 * np.mean([one.high - one.low for one in each])
    same = paired_interval(weighted.auroc, [truth] * 8, [noisy[0]] * 8)
    np.testing.assert_allclose(same, each[0])


def test_folds_need_not_share_their_rows():
    run = draw(200)
    folds = [Predictions(*(part[k::2] for part in run)) for k in range(2)]
    expected = np.mean([sk.roc_auc_score(fold.label, fold.prediction) for fold in folds])
    assert bootstrap_interval(weighted.auroc, folds, n_resamples=50).estimate == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run: run._replace(row_id=run.row_id + 1), "2 rows"),
        (lambda run: run._replace(row_id=run.row_id // 2), "repeat"),
        (lambda run: run._replace(label=1 - run.label), "labels"),
        (lambda run: run._replace(patient_id=run.patient_id + 1), "patients"),
        (lambda run: run._replace(prediction=run.prediction * np.nan), "NaN"),
        (lambda run: [run, run], "paired"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        paired_interval(weighted.auroc, draw(), change(draw()))


def test_two_thousand_resamples_of_four_thousand_stays_take_seconds():
    run = draw(4000)
    start = time.process_time()
    paired_interval(weighted.auprc, run, run._replace(prediction=-run.prediction), n_resamples=2000)
    assert time.process_time() - start < 5
