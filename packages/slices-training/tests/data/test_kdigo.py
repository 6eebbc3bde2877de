"""Acute kidney injury by KDIGO: its table by hand, and a slow, literal reading of it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slices.training.data import Tally, Variable
from slices.training.data.definitions import OUTCOME_SCHEMA, build_definitions, define, define_labels
from slices.training.data.schema import EVENT_SCHEMA, STAY_SCHEMA

VARIABLES = (
    Variable(name="hr", unit="bpm"),
    Variable(name="crea", unit="mg/dL", low=0.05, high=40),
    Variable(name="urine", unit="mL", low=0, high=5000, aggregate="sum"),
    Variable(name="weight", unit="kg", low=20, high=400, static=True),
)
HR, CREA, URINE, WEIGHT = range(4)
WINDOWS = (6, 12, 24)

Series = list[tuple[int, int]]  # minute and value: creatinine in hundredths of mg/dL, urine in mL


def labels(stays: dict[int, float], rows: list[tuple[Any, ...]], **options: Any) -> dict[Any, int]:
    """``{(stay, hour): label}``; rows are stay, hours, variable, value."""
    (definition,) = build_definitions({"aki": {"kind": "kdigo_aki", **options}})
    table = pl.DataFrame([(i, i, "a", length) for i, length in stays.items()], STAY_SCHEMA, orient="row")
    events = pl.DataFrame(rows, EVENT_SCHEMA, orient="row")
    given = define(definition, table, events, OUTCOME_SCHEMA.to_frame(), VARIABLES)
    return {(stay, round(time, 3)): int(value) for _, stay, time, _, value in given.iter_rows()}


def crea(*measured: tuple[float, float]) -> list[tuple[Any, ...]]:
    return [(1, hour, CREA, value) for hour, value in measured]


def urine(*charted: tuple[float, float], weight: float = 80.0) -> list[tuple[Any, ...]]:
    return [(1, 0.0, WEIGHT, weight), *((1, hour, URINE, value) for hour, value in charted)]


def stage(rows: list[tuple[Any, ...]], hour: float) -> int | None:
    """The stage that what is measured at ``hour`` shows, by what is asked six minutes before."""
    asked = [
        labels({1: hour + 1}, rows, stage=grade, within=0.1, every=0.1, until_onset=False).get(
            (1, round(hour - 0.1, 3))
        )
        for grade in (1, 2, 3)
    ]
    told = [grade for grade in asked if grade is not None]
    assert told == sorted(told, reverse=True)  # who has stage 2 has stage 1
    return sum(told) if told else None


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        ([(10, 1.0)], None),  # nothing to compare it with
        ([(2, 1.0), (10, 1.2)], 0),
        ([(2, 0.9), (10, 1.2)], 1),  # 0.3 more, which is less than 0.3 in binary
        ([(2, 1.0), (10, 1.29)], 0),
        ([(2, 2.0), (50, 2.3)], 1),  # exactly 48 hours later
        ([(2, 2.0), (50.1, 2.3)], 0),  # later than that, and not 1.5 times
        ([(2, 1.0), (100, 1.5)], 1),
        ([(2, 1.0), (100, 1.49)], 0),
        ([(2, 1.0), (100, 2.0)], 2),
        ([(2, 1.0), (100, 2.99)], 2),
        ([(2, 1.0), (100, 3.0)], 3),
        ([(2, 1.0), (170, 1.5)], 1),  # exactly 7 days later
        ([(2, 1.0), (170.1, 1.5)], None),
        ([(2, 1.0), (90, 2.0), (170.1, 2.0)], 0),
        ([(2, 3.7), (40, 4.0)], 3),  # 4.0 by an acute rise
        ([(2, 3.9), (40, 4.1)], 0),  # 4.1 without one: chronic
        ([(2, 1.0), (20, 0.5), (40, 1.0)], 2),  # the lowest counts, not the first
    ],
)
def test_creatinine_by_the_table(measured: list[tuple[float, float]], expected: int | None) -> None:
    assert stage(crea(*measured), measured[-1][0]) == expected


def hourly(amounts: list[float]) -> list[tuple[float, float]]:
    """Charted from hour 0 on."""
    return [(float(hour), amount) for hour, amount in enumerate(amounts)]


@pytest.mark.parametrize(
    ("charted", "expected"),
    [
        (hourly([500] + [39] * 6), 1),  # below 0.5 mL/kg/h with 80 kg: below 40 mL/h, whatever came before
        (hourly([500] + [40] * 6), 0),
        (hourly([500] + [39] * 5), None),  # not yet 6 hours
        (hourly([500] + [39] * 12), 2),
        (hourly([500] + [60] * 6 + [39] * 6), 1),
        (hourly([500] + [23] * 24), 3),  # below 0.3 mL/kg/h: below 24 mL/h
        (hourly([500] + [24] * 24), 2),
        (hourly([500] + [0] * 12), 3),  # anuria
        (hourly([500] + [0] * 11), 1),
        (hourly([500] + [1] * 12), 2),
        ([(0, 500), (6, 200)], 1),
        ([(0, 500), (6.5, 10)], None),  # more than 6 hours without charting: not known
        ([(0, 500), (5, 100), (10, 100), (16, 100)], 2),
        ([(0, 500), (5, 10), (11.5, 10), (17.5, 10)], 1),  # known again from 11:30 on
    ],
)
def test_urine_by_the_table(charted: list[tuple[float, float]], expected: int | None) -> None:
    assert stage(urine(*charted), charted[-1][0]) == expected


def test_urine_needs_a_weight() -> None:
    oliguria = hourly([500] + [10] * 12)
    assert stage(urine(*oliguria)[1:], 12) is None
    later = [(1, 9.0, WEIGHT, 80.0), *urine(*oliguria)[1:]]
    assert stage(later, 8) is None and stage(later, 9) == 1 and stage(later, 12) == 2


def test_labels_look_ahead_until_the_onset() -> None:
    rows = crea((1, 1.0), (8, 1.0), (12, 1.5), (20, 1.0))
    ahead = labels({1: 48.0}, rows, within=6.0)
    assert ahead == {(1, 2.0): 0, **{(1, h): 0 for h in (3.0, 4.0, 5.0)}, **{(1, h): 1 for h in range(6, 12)}}
    every = labels({1: 48.0}, rows, within=6.0, until_onset=False)
    assert every == ahead | {(1, hour): 0 for hour in range(14, 20)}  # at 12 and 13 nothing follows in time
    assert labels({1: 12.0}, rows, within=6.0) == {k: v for k, v in ahead.items() if k[1] <= 6}
    assert labels({1: 48.0}, rows, within=6.0, every=5.0) == {(1, 5.0): 0, (1, 10.0): 1}
    assert labels({1: 48.0}, [(1, -9.0, CREA, 0.5), *rows]) == {}  # injured on admission


def test_values_that_a_dataset_drops_decide_nothing() -> None:
    rows = [
        *crea((1, 1.0), (3, 1.0)),
        (1, 5.0, CREA, 999.0),
        (1, 5.0, CREA, float("nan")),
        (9, 5.0, CREA, 3.0),
    ]
    assert labels({1: 20.0}, rows) == {(1, 1.0): 0, (1, 2.0): 0}


def test_what_gets_no_label_is_counted() -> None:
    (definition,) = build_definitions({"aki": {"kind": "kdigo_aki", "within": 2}})
    stays = pl.DataFrame([(1, 1, "a", 10.0), (2, 2, "b", 2.9)], STAY_SCHEMA, orient="row")
    events = pl.DataFrame(crea((1, 1.0), (4, 1.0), (6, 2.0)), EVENT_SCHEMA, orient="row")
    tally = Tally()
    given = define_labels([definition], stays, events, OUTCOME_SCHEMA.to_frame(), VARIABLES, tally)
    assert given["prediction_time"].to_list() == [2.0, 3.0, 4.0, 5.0]
    counted = {rule: entry["by_set"] for rule, entry in tally.rules.items()}
    assert counted == {"aki_too_short": {"b": 1}, "aki_begun": {"a": 3}, "aki_unknown": {"a": 1}}


def creatinine_stage(measured: Series, now: int) -> int | None:
    value = dict(measured)[now]
    days_7 = [v for minute, v in measured if now - 7 * 1440 <= minute <= now]
    days_2 = [v for minute, v in measured if now - 2880 <= minute <= now]
    if len(days_7) < 2:
        return None
    injured = value - min(days_2) >= 30 or 2 * value >= 3 * min(days_7)
    if value >= 3 * min(days_7) or (injured and value >= 400):
        return 3
    return 2 if value >= 2 * min(days_7) else int(injured)


def urine_output(charted: Series, now: int, hours: int) -> int | None:
    """mL in the hours up to now, or None where that is not known."""
    start = now - hours * 60
    before = [minute for minute, _ in charted if minute <= start]
    if not before:
        return None
    minutes = [max(before), *(minute for minute, _ in charted if start < minute <= now)]
    if any(later - earlier > 360 for earlier, later in pairwise(minutes)):
        return None
    return sum(amount for minute, amount in charted if start < minute <= now)


def urine_verdict(charted: Series, weight: int, now: int, grade: int) -> bool | None:
    """Whether this grade or a higher one is reached, or None where that is not known."""
    over_6, over_12, over_24 = (urine_output(charted, now, hours) for hours in WINDOWS)
    reached = {
        1: over_6 is not None and 2 * over_6 < weight * 6,
        2: over_12 is not None and 2 * over_12 < weight * 12,
        3: (over_24 is not None and 10 * over_24 < 3 * weight * 24) or over_12 == 0,
    }
    if any(reached[g] for g in range(grade, 4)):
        return True
    return None if (over_6, over_12, over_24)[grade - 1] is None else False


def literal(stay: dict[str, Any], grade: int, within: int, every: int, until_onset: bool) -> dict[int, int]:
    """``{minute: label}`` of one stay, as the docstring of ``KdigoAKI`` says it."""
    verdicts: list[tuple[int, bool]] = []
    for now, _ in stay["crea"]:
        found = creatinine_stage(stay["crea"], now)
        if found is not None:
            verdicts.append((now, found >= grade))
    for now, _ in stay["urine"]:
        if stay["weight"] is not None and stay["weight"][0] <= now:
            reached = urine_verdict(stay["urine"], stay["weight"][1], now, grade)
            if reached is not None:
                verdicts.append((now, reached))
    given = {}
    for now in range(every, stay["length"] - within + 1, every):
        ahead = [bad for minute, bad in verdicts if now < minute <= now + within]
        begun = any(bad for minute, bad in verdicts if minute <= now)
        if ahead and not (begun and until_onset):
            given[now] = int(any(ahead))
    return given


@st.composite
def measured_stays(draw: st.DrawFn) -> dict[str, Any]:
    values = st.sampled_from([50, 75, 90, 100, 120, 130, 150, 200, 225, 270, 370, 400, 430])
    minutes = st.integers(-40, 500).map(lambda half_hour: 30 * half_hour)
    gaps = draw(st.lists(st.sampled_from([30, 60, 60, 60, 120, 180, 360, 390]), max_size=40))
    minute = draw(st.integers(-20, 20)) * 30
    charted = []
    for gap in gaps:
        charted.append((minute, draw(st.sampled_from([0, 0, 0, 20, 24, 40, 41, 80, 240]))))
        minute += gap
    return {
        "length": draw(st.integers(1, 700)) * 15,
        "crea": sorted(draw(st.dictionaries(minutes, values, max_size=8)).items()),
        "urine": charted,
        "weight": draw(st.none() | st.tuples(st.sampled_from([0, 0, 300]), st.sampled_from([60, 80, 81]))),
    }


def as_rows(stay_id: int, stay: dict[str, Any]) -> list[tuple[Any, ...]]:
    weights = [stay["weight"], (6000, 200)] if stay["weight"] else []
    return [
        *((stay_id, minute / 60, CREA, value / 100) for minute, value in stay["crea"]),
        *((stay_id, minute / 60, URINE, float(amount)) for minute, amount in stay["urine"]),
        *((stay_id, minute / 60, WEIGHT, float(kg)) for minute, kg in weights),
        (stay_id, 1.0, HR, 500.0),
    ]


@settings(max_examples=25, deadline=None)
@given(
    stays=st.lists(measured_stays(), min_size=1, max_size=3),
    grade=st.integers(1, 3),
    within=st.sampled_from([60, 360, 720, 1440]),
    every=st.sampled_from([30, 60, 240]),
    until_onset=st.booleans(),
    data=st.data(),
)
def test_it_is_what_a_literal_reading_gives(
    stays: list[dict[str, Any]], grade: int, within: int, every: int, until_onset: bool, data: st.DataObject
) -> None:
    rows = data.draw(st.permutations([row for i, stay in enumerate(stays) for row in as_rows(i, stay)]))
    lengths = {i: stay["length"] / 60 for i, stay in enumerate(stays)}
    options = {"stage": grade, "within": within / 60, "every": every / 60, "until_onset": until_onset}
    expected = {
        (i, round(minute / 60, 3)): label
        for i, stay in enumerate(stays)
        for minute, label in literal(stay, grade, within, every, until_onset).items()
    }
    assert labels(lengths, rows, **options) == expected


@settings(max_examples=15, deadline=None)
@given(stay=measured_stays(), hour=st.integers(1, 100), until_onset=st.booleans())
def test_nothing_after_the_window_matters_and_nothing_up_to_now_decides(
    stay: dict[str, Any], hour: int, until_onset: bool
) -> None:
    rows, length = as_rows(1, stay), {1: stay["length"] / 60}
    whole = labels(length, rows, until_onset=until_onset)

    def known_by(end: float) -> dict[Any, int]:
        return labels(length, [row for row in rows if row[1] <= end], until_onset=until_onset)

    assert (1, hour) not in known_by(hour)
    assert known_by(hour + 6.0).get((1, hour)) == whole.get((1, hour))


def test_a_planted_leak_would_be_found() -> None:
    """A label that a measurement up to its own time decides is one that the properties above refuse."""
    rows = crea((1, 1.0), (5, 2.0))
    assert labels({1: 24.0}, rows, until_onset=False) == {(1, hour): 1 for hour in (1, 2, 3, 4)}
    assert (1, 5.0) not in labels({1: 24.0}, rows, until_onset=False)  # at 5:00 it has been measured already
