"""Survival predictions with censored outcomes, as metrics of weighted rows (see ``weighted``).

A label ``(N, 2)`` holds the time of what came first, or of the last look, and what that was: the event (1),
another that rules it out (2), or nothing, the stay was censored (0). Of equal times, events come first. Who
had a competing event is known never to have this one: Wolbers et al., "Prognostic models with competing
risks" (2009) for the concordance, Schoop et al., "Quantifying the predictive performance of prognostic models
for censored survival data with competing risks" (2011) for the Brier score. ``label_of_event`` makes such
labels where there are several events; predictions are then the cumulative incidence of one.

Letters: N rows, R weightings, K times of the grid, U different times in the labels, E events.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from slices.training.evaluation.weighted import Array, ratio

BLOCK = 512  # events compared with all rows at once


def label_of_event(label: Array, event: int) -> Array:
    """Labels of several events (1, 2 ...; 0: censored), as those of one of them.

    >>> label_of_event(np.array([[5.0, 2], [6.0, 1], [7.0, 0]]), 2)
    array([[5., 1.],
           [6., 2.],
           [7., 0.]])
    """
    code = np.where(label[:, 1] == event, 1, np.where(label[:, 1] == 0, 0, 2))
    return np.stack([label[:, 0], code], axis=1)


def cumulative_incidence(label: Array, times: Array) -> Array:
    """The share who have had the event by each of ``times`` ``(K,)``; the censored count while they are seen.

    Aalen & Johansen, "An empirical transition matrix for non-homogeneous Markov chains based on censored
    observations" (1978). Without other events it is one less Kaplan and Meier's survival.

    >>> label = np.array([[1.0, 1], [2.0, 0], [3.0, 1], [3.0, 2]])
    >>> cumulative_incidence(label, np.array([0.5, 1.0, 3.0])).round(3)
    array([0.   , 0.25 , 0.625])
    """
    moments, place = np.unique(label[:, 0], return_inverse=True)
    gone = np.bincount(place, minlength=len(moments))
    seen = len(label) - np.append(0, np.cumsum(gone)[:-1])
    of_event = np.bincount(place, label[:, 1] == 1, len(moments))
    of_any = np.bincount(place, label[:, 1] > 0, len(moments))
    free = np.append(1.0, np.cumprod(1 - of_any / seen)[:-1])
    incidence = np.cumsum(free * of_event / seen)
    return np.append(0.0, incidence)[np.searchsorted(moments, times, side="right")]


def concordance(risk: Array, label: Array, weight: Array) -> Array:
    """Of pairs whose order is known, the share in which the first to have the event has the higher risk.

    Equal risks count half. A pair is comparable where the earlier time is an event's, or where the other had
    a competing one at any time. ``risk`` is ``(N,)``.
    Harrell et al., "Evaluating the yield of medical tests" (1982).

    >>> label = np.array([[1.0, 1], [2.0, 0], [3.0, 1]])
    >>> concordance(np.array([0.9, 0.1, 0.5]), label, np.ones((1, 3)))
    array([1.])
    """
    return _concordance(lambda rows: np.broadcast_to(risk, (len(rows), len(risk))), label, weight)


def time_dependent_concordance(incidence: Array, label: Array, weight: Array, *, times: Array) -> Array:
    """The same with the risk of both by the time at which the first had the event.

    ``incidence`` ``(N, K)`` is the cumulative probability of the event by each of ``times`` ``(K,)``,
    ascending. It grows evenly from 0 at time 0 and from one to the next, and is constant after the last: with
    steps in their place all would be equal risks within the first interval. For proportional hazards it is
    Harrell's. Antolini, Boracchi & Biganzoli, "A time-dependent discrimination index for survival data"
    (2005); Kvamme & Borgan, "Continuous and discrete-time survival prediction with neural networks" (2021),
    section 3.2, for what is between the times.

    >>> label = np.array([[1.0, 1], [2.0, 1]])
    >>> incidence = np.array([[0.5, 0.6], [0.1, 0.9]])
    >>> time_dependent_concordance(incidence, label, np.ones((1, 2)), times=np.array([1.0, 2.0]))
    array([1.])
    """
    by = np.searchsorted(times, label[:, 0], side="right")
    ends = np.append(times, np.inf)
    starts = np.concatenate([np.minimum(times[:1], 0.0), times])
    share = (label[:, 0] - starts[by]) / (ends - starts)[by]
    zero = np.zeros((len(incidence), 1))
    growth = np.diff(incidence, axis=1, prepend=zero, append=incidence[:, -1:])
    from_0 = np.concatenate([zero, incidence], axis=1)
    return _concordance(
        lambda rows: (from_0[:, by[rows]] + share[rows] * growth[:, by[rows]]).T, label, weight
    )


def brier_at(incidence: Array, label: Array, weight: Array, *, time: float) -> Array:
    """Squared error of the incidence ``(N,)`` by a time, the censored made up for by weight.

    ``mean((1 - F)² [T <= t, event] / G(T-) + F² [T <= t, competing] / G(T-) + F² [T > t] / G(t))`` with F the
    incidence and G the probability of not being censored, by Kaplan and Meier from the same rows.
    Graf et al., "Assessment and comparison of prognostic classification schemes for survival data" (1999).

    >>> brier_at(np.array([1.0, 0.5]), np.array([[1.0, 1], [3.0, 0]]), np.ones((1, 2)), time=2.0)
    array([0.125])
    """
    moments, before, after = uncensored(label, weight)
    observed, had_event, had_other = label[:, 0], label[:, 1] == 1, label[:, 1] == 2
    of_row = np.searchsorted(moments, observed)
    until = np.searchsorted(moments, time, side="right") - 1
    past, ruled_out = ((observed <= time) & which for which in (had_event, had_other))
    g_past, g_ruled_out = before[:, of_row[past]], before[:, of_row[ruled_out]]
    g_now = after[:, until : until + 1] if until >= 0 else np.ones((len(weight), 1))
    with_event = weight[:, past] * _inverse(g_past) @ (1 - incidence[past]) ** 2
    without = weight[:, observed > time] * _inverse(g_now) @ incidence[observed > time] ** 2
    with_other = weight[:, ruled_out] * _inverse(g_ruled_out) @ incidence[ruled_out] ** 2
    return ratio(with_event + with_other + without, weight.sum(1))


def integrated_brier(incidence: Array, label: Array, weight: Array, *, times: Array) -> Array:
    """``brier_at`` of ``incidence`` ``(N, K)``, averaged over ``times`` ``(K,)`` by trapezoids.

    Choose times at which some are still under observation. Graf et al. (1999), section 4.

    Raises:
        ValueError: fewer than two times.
    """
    if len(times) < 2:
        raise ValueError(f"{len(times)} time: an integral needs two or more")
    scores = [brier_at(of_time, label, weight, time=t) for of_time, t in zip(incidence.T, times, strict=True)]
    middles = (np.stack(scores[1:]) + np.stack(scores[:-1])) / 2
    return np.asarray(np.diff(times) @ middles / (times[-1] - times[0]))


def uncensored(label: Array, weight: Array) -> tuple[Array, Array, Array]:
    """The times ``(U,)`` of the labels; the probability of no censoring before and after each, ``(R, U)``.

    Kaplan & Meier, "Nonparametric estimation from incomplete observations" (1958), with censorings as events.

    >>> uncensored(np.array([[1.0, 0], [2.0, 1]]), np.ones((1, 2)))[1:]
    (array([[1. , 0.5]]), array([[0.5, 0.5]]))
    """
    moments, of_row = np.unique(label[:, 0], return_inverse=True)
    order = np.argsort(of_row, kind="stable")
    starts = np.searchsorted(of_row[order], np.arange(len(moments)))
    leaving = np.add.reduceat(weight[:, order], starts, axis=1)
    censored = np.add.reduceat((weight * (label[:, 1] == 0))[:, order], starts, axis=1)
    at_risk = np.cumsum(leaving[:, ::-1], axis=1)[:, ::-1] - (leaving - censored)  # events come first
    stays = 1 - np.nan_to_num(ratio(censored, at_risk))
    after = np.cumprod(stays, axis=1)
    return moments, np.concatenate([np.ones((len(weight), 1)), after[:, :-1]], axis=1), after


def _inverse(share: Array) -> Array:
    """0 where nobody is left, and so nobody to weigh."""
    return np.nan_to_num(ratio(np.ones_like(share), share))


def _concordance(risk_at: Callable[[Array], Array], label: Array, weight: Array) -> Array:
    """``risk_at`` gives everybody's risk ``(E, N)`` at the event times of some rows."""
    time, had_event, had_other = label[:, 0], label[:, 1] == 1, label[:, 1] == 2
    agreeing, comparable = np.zeros(len(weight)), np.zeros(len(weight))
    events = np.flatnonzero(had_event)
    for rows in np.array_split(events, max(1, -(-len(events) // BLOCK))):
        first = time[rows, None]
        pairs = (first < time) | ((first == time) & ~had_event) | had_other
        risk = risk_at(rows)
        own = np.take_along_axis(risk, rows[:, None], axis=1)
        ahead = pairs * ((own > risk) + 0.5 * (own == risk))
        for total, kind in ((agreeing, ahead), (comparable, pairs)):
            total += (weight[:, rows] * (weight @ kind.T.astype(np.float64))).sum(1)
    return ratio(agreeing, comparable)
