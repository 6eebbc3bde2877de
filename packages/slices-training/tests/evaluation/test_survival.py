"""Survival metrics against the definitions, pair by pair and row by row, ties and weights included."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from slices.training.evaluation import survival

Array = NDArray[Any]
TIMES = np.array([1.0, 3.0, 5.0])
ROWS = st.lists(
    st.tuples(st.integers(1, 6), st.integers(0, 1), *[st.integers(0, 4)] * 3), min_size=3, max_size=15
)


def arrays(rows: list[tuple[int, ...]]) -> tuple[Array, Array]:
    table = np.array(rows, dtype=float)
    return np.cumsum(table[:, 2:], axis=1) / 16, table[:, :2]


def incidence_by(incidence: Array, time: float) -> float:
    return float(np.interp(time, [0.0, *TIMES], [0.0, *incidence]))


def literal_concordance(incidence: Array, label: Array) -> float:
    agreeing = comparable = 0.0
    for risk, (time, event) in zip(incidence, label, strict=True):
        for other, (later, other_event) in zip(incidence, label, strict=True):
            if event and (time < later or (time == later and not other_event)):
                mine, theirs = incidence_by(risk, time), incidence_by(other, time)
                comparable += 1
                agreeing += 1.0 if mine > theirs else 0.5 if mine == theirs else 0.0
    return agreeing / comparable if comparable else np.nan


def literal_uncensored(label: Array, until: float, inclusive: bool) -> float:
    product = 1.0
    for time in np.unique(label[:, 0]):
        if time < until or (inclusive and time == until):
            censored = sum(1 for t, event in label if t == time and not event)
            at_risk = sum(1 for t, event in label if t > time or (t == time and not event))
            product *= 1 - censored / at_risk if at_risk else 1.0
    return product


def literal_brier(incidence: Array, label: Array, time: float) -> float:
    total = 0.0
    for risk, (observed, event) in zip(incidence, label, strict=True):
        if observed > time:
            total += risk**2 / literal_uncensored(label, time, True)
        elif event:
            total += (1 - risk) ** 2 / literal_uncensored(label, observed, False)
    return total / len(label)


@given(rows=ROWS)
@settings(max_examples=80, deadline=None)
def test_concordance_counts_pairs(rows: list[tuple[int, ...]]) -> None:
    incidence, label = arrays(rows)
    found = survival.time_dependent_concordance(incidence, label, np.ones((1, len(rows))), times=TIMES)
    np.testing.assert_allclose(found, [literal_concordance(incidence, label)])


@given(rows=ROWS, time=st.sampled_from([0.5, 1.0, 2.0, 3.0, 6.0]))
@settings(max_examples=80, deadline=None)
def test_brier_sums_rows(rows: list[tuple[int, ...]], time: float) -> None:
    incidence, label = arrays(rows)
    found = survival.brier_at(incidence[:, 1], label, np.ones((1, len(rows))), time=time)
    np.testing.assert_allclose(found, [literal_brier(incidence[:, 1], label, time)])


METRICS = {
    "concordance": lambda p, y, w: survival.concordance(p[:, 0], y, w),
    "time_dependent": partial(survival.time_dependent_concordance, times=TIMES),
    "integrated_brier": partial(survival.integrated_brier, times=TIMES),
}


@pytest.mark.parametrize("name", METRICS)
@given(rows=ROWS, seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_rows_count_as_often_as_they_weigh_in_any_order(
    name: str, rows: list[tuple[int, ...]], seed: int
) -> None:
    incidence, label = arrays(rows)
    generator = np.random.default_rng(seed)
    weight = generator.integers(0, 3, size=(3, len(rows)))
    weight[:, 0] += 1
    found = METRICS[name](incidence, label, weight.astype(float))
    for value, copies in zip(found, weight, strict=True):
        chosen = generator.permutation(np.repeat(np.arange(len(rows)), copies))
        alone = METRICS[name](incidence[chosen], label[chosen], np.ones((1, len(chosen))))
        np.testing.assert_allclose(value, alone[0], atol=1e-12)


def test_with_a_risk_that_does_not_cross_both_concordances_are_one() -> None:
    generator = np.random.default_rng(0)
    risk = generator.random(1500)
    label = np.stack([generator.exponential(1 / (0.2 + risk)), generator.integers(0, 2, 1500)], axis=1)
    grid = np.linspace(0, 20, 200)
    incidence = 1 - np.exp(-(1e-3 + np.minimum(grid, 5.0)) * risk[:, None])
    harrell = survival.concordance(risk, label, np.ones((1, 1500)))
    antolini = survival.time_dependent_concordance(incidence, label, np.ones((1, 1500)), times=grid)
    np.testing.assert_allclose(antolini, harrell)
    assert harrell[0] > 0.55


@pytest.mark.parametrize("n_intervals", [1, 2, 4, 20])
def test_few_intervals_do_not_make_a_model_discriminate_less(n_intervals: int) -> None:
    generator = np.random.default_rng(0)
    log_hazard = generator.normal(size=1500)
    event, look = generator.exponential(20 / np.exp(log_hazard)), generator.exponential(60.0, size=1500)
    label = np.stack([np.minimum(event, look), event <= look], axis=1).astype(float)
    ends = np.quantile(label[label[:, 1] == 1, 0], np.arange(1, n_intervals + 1) / n_intervals)
    incidence = 1 - np.exp(-np.exp(log_hazard)[:, None] * ends / 20)
    found = survival.time_dependent_concordance(incidence, label, np.ones((1, 1500)), times=ends)
    wanted = survival.concordance(log_hazard, label, np.ones((1, 1500)))
    np.testing.assert_allclose(found, wanted, atol=0.01)


def test_without_censoring_the_brier_score_is_the_plain_one_and_censoring_keeps_it() -> None:
    generator = np.random.default_rng(0)
    n = 20_000
    risk = generator.random(n)
    event, look = generator.exponential(1 / (0.2 + risk)), generator.exponential(2.0, size=n)
    incidence = 1 - np.exp(-(0.2 + risk))
    plain = np.mean((incidence - (event <= 1)) ** 2)
    seen = np.stack([event, np.ones(n)], axis=1)
    ones = np.ones((1, n))
    np.testing.assert_allclose(survival.brier_at(incidence, seen, ones, time=1.0), [plain])
    censored = np.stack([np.minimum(event, look), event <= look], axis=1).astype(float)
    np.testing.assert_allclose(survival.brier_at(incidence, censored, ones, time=1.0), [plain], atol=0.005)


def test_a_perfect_and_a_useless_forecast() -> None:
    times, label = np.arange(1.0, 5.0), np.stack([np.arange(1.0, 5.0), np.ones(4)], axis=1)
    perfect = (label[:, :1] <= times).astype(float)
    assert survival.integrated_brier(perfect, label, np.ones((1, 4)), times=times)[0] == 0
    half = np.full((4, 4), 0.5)
    assert survival.integrated_brier(half, label, np.ones((1, 4)), times=times)[0] == 0.25
    assert survival.time_dependent_concordance(half, label, np.ones((1, 4)), times=times)[0] == 0.5
    with pytest.raises(ValueError, match="two or more"):
        survival.integrated_brier(half[:, :1], label, np.ones((1, 4)), times=times[:1])


def literal_competing_brier(risk: Array, label: Array, time: float) -> float:
    """Schoop et al. 2011, row by row; a competing event leaves as an event does."""
    total = 0.0
    for own, (observed, code) in zip(risk, label, strict=True):
        if observed > time:
            total += own**2 / literal_uncensored(label, time, True)
        elif code:
            target = 1.0 if code == 1 else 0.0
            total += (target - own) ** 2 / literal_uncensored(label, observed, False)
    return total / len(label)


COMPETING = st.lists(
    st.tuples(st.integers(1, 6), st.integers(0, 2), *[st.integers(0, 4)] * 3), min_size=3, max_size=15
)


@given(COMPETING)
@settings(deadline=None)
def test_competing_events_are_known_not_to_be_the_event(rows: list[tuple[int, ...]]) -> None:
    incidence, label = arrays(rows)
    ones = np.ones((1, len(label)))
    for column, time in enumerate(TIMES):
        at_risk = literal_uncensored(label, time, True)
        if at_risk > 0:
            ours = survival.brier_at(incidence[:, column], label, ones, time=time)
            np.testing.assert_allclose(ours, [literal_competing_brier(incidence[:, column], label, time)])
    pairs = [
        (mine, theirs)
        for mine, (first, code) in zip(incidence[:, 0], label, strict=True)
        for theirs, (time, other) in zip(incidence[:, 0], label, strict=True)
        if code == 1 and (other == 2 or first < time or (first == time and other == 0))
    ]
    wanted = np.mean([(a > b) + 0.5 * (a == b) for a, b in pairs]) if pairs else np.nan
    np.testing.assert_allclose(survival.concordance(incidence[:, 0], label, ones), [wanted])


def test_without_censoring_the_brier_score_is_the_mean_squared_error_of_having_had_the_event() -> None:
    rng = np.random.default_rng(0)
    label = np.stack([rng.uniform(0, 10, 50), rng.integers(1, 3, 50)], axis=1)
    incidence = rng.uniform(size=50)
    had = (label[:, 0] <= 4) & (label[:, 1] == 1)
    ours = survival.brier_at(incidence, label, np.ones((1, 50)), time=4.0)
    np.testing.assert_allclose(ours, [np.mean((had - incidence) ** 2)])


def literal_incidence(label: Array, time: float) -> float:
    free, incidence = 1.0, 0.0
    for moment in sorted(set(label[:, 0])):
        if moment > time:
            break
        seen = (label[:, 0] >= moment).sum()
        now = label[label[:, 0] == moment, 1]
        incidence += free * (now == 1).sum() / seen
        free *= 1 - (now > 0).sum() / seen
    return float(incidence)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), min_size=1, max_size=20))
def test_incidence_is_the_loop_and_the_share_where_nobody_is_censored(rows: list[tuple[int, int]]) -> None:
    label, times = np.array(rows, dtype=float), np.arange(-1.0, 8.0)
    found = survival.cumulative_incidence(label, times)
    np.testing.assert_allclose(found, [literal_incidence(label, time) for time in times], atol=1e-12)
    label[:, 1] = np.maximum(label[:, 1], 1)
    found = survival.cumulative_incidence(label, times)
    np.testing.assert_allclose(
        found, [((label[:, 0] <= time) & (label[:, 1] == 1)).mean() for time in times], atol=1e-12
    )
