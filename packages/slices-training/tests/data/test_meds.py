"""MEDS datasets: what becomes of codes, stays and splits, on small datasets written here."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meds_raw import Meds, drops, rows, stay
from stored import events


def test_codes_become_variables_in_their_units(meds: Meds) -> None:
    measured = [
        (7, 10.0, "HR//220045//bpm", 80.0),
        (7, 10.5, "TEMP//C", 37.5),
        (7, 11.0, "TEMP//F", 96.0),  # 96 / 2 - 10
        (7, 12.0, "VENT", None),
        (7, 12.5, "OUT//foley", 100.0),
    ]
    meds.write(rows(*stay(7, 10, 20), *measured))
    store = meds.prepare()
    assert store.stays.select("stay_id", "patient_id", "length_hours").row(0) == (7001, 7, 10.0)
    assert events(store) == [
        (7001, 0.0, "hr", 80.0),
        (7001, 0.5, "temp", 37.5),
        (7001, 1.0, "temp", 38.0),
        (7001, 2.0, "vent_ind", 1.0),
        (7001, 2.5, "urine", 100.0),
    ]
    in_order = ["hr", "temp", "tgcs", "urine", "vent_ind", "age", "sex", "weight"]
    assert [variable.name for variable in store.variables] == in_order


def test_a_sum_needs_all_its_terms_at_one_moment(meds: Meds) -> None:
    whole = [(7, 1.0, "EYES", 4.0), (7, 1.0, "VERBAL", 4.0), (7, 1.0, "VERBAL", 5.0), (7, 1.0, "MOTOR", 6.0)]
    partly = [(7, 2.0, "EYES", 4.0), (7, 2.0, "VERBAL", 5.0), (7, 2.1, "MOTOR", 6.0)]
    meds.write(rows(*stay(7, 0, 20), *whole, *partly))
    store = meds.prepare()
    assert events(store) == [(7001, 1.0, "tgcs", 14.5)]
    assert drops(store)["incomplete_sum"] == 2


def test_a_static_variable_has_the_last_value_known_soon_after_the_start(meds: Meds) -> None:
    known = [(7, None, "SEX//M", None), (7, -20 * 24 * 365.25, "MEDS_BIRTH", None)]
    weights = [(7, -5.0, "WEIGHT", 70.0), (7, 0.5, "POUNDS", 160.0), (7, 0.5, "WEIGHT", 81.0)]
    late = [(7, 2.0, "WEIGHT", 90.0), (7, 101.5, "WEIGHT", 95.0)]
    meds.write(rows(*stay(7, 0, 20), *stay(7, 100, 120), *known, *weights, *late))
    store = meds.prepare()
    first, second = (
        {name: value for stay, time, name, value in events(store) if stay == which and time == 0}
        for which in (7001, 7002)
    )
    assert first == {"age": pytest.approx(20), "sex": 1.0, "weight": 81.0}
    assert second == {"age": pytest.approx(20 + 100 / 24 / 365.25), "sex": 1.0, "weight": 90.0}
    assert len(events(store)) == 6
    assert drops(store)["unused_static"] == 3


def test_stays_go_from_a_start_to_the_next_end(meds: Meds) -> None:
    marks = [*stay(7, 0, 10), *stay(7, 10, 15), (7, 20.0, "IN//x", None), *stay(7, 21, 30)]
    marks += [(7, 40.0, "OUT_OF//x", None), (7, 50.0, "IN//x", None), (7, None, "IN//x", None)]
    hours = [-1.0, 0.0, 9.0, 10.0, 15.0, 16.0, 20.5, 21.0, 30.0, 55.0]
    meds.write(rows(*marks, *((7, hour, "HR//x", 60 + hour) for hour in hours)))
    store = meds.prepare()
    assert store.stays["length_hours"].to_list() == [10.0, 5.0, 9.0]
    assert [(stay, time) for stay, time, _, _ in events(store)] == [
        *((7001, 0.0), (7001, 9.0)),
        *((7002, 0.0), (7002, 5.0)),  # 10 h ends the first stay and starts the second
        *((7003, 0.0), (7003, 9.0)),
    ]
    counted = {"start_without_end": 2, "end_without_start": 1, "mark_without_time": 1, "outside_stays": 4}
    assert drops(store) == counted


def test_without_bounds_a_whole_record_is_one_stay(meds: Meds) -> None:
    births = [(7, -9999.0, "MEDS_BIRTH", None), (8, -9999.0, "MEDS_BIRTH", None)]
    meds.write(rows(*births, (7, 5.0, "x", None), (7, 6.0, "HR//x", 80.0), (7, 48.0, "y", None)))
    store = meds.prepare(stays=None)
    assert store.stays.select("stay_id", "length_hours").rows() == [(7001, 43.0)]
    assert (7001, 1.0, "hr", 80.0) in events(store)


def test_subjects_keep_the_splits_of_the_dataset(meds: Meds) -> None:
    meds.write(rows(*stay(1, 0, 9), *stay(2, 0, 9), (1, 3.0, "strange", None)))
    meds.write(rows(*stay(3, 0, 9), (3, 3.0, "strange", None), (3, 4.0, None, 1.0)), "data/b/sub/0.parquet")
    assert meds.prepare().stays["set"].to_list() == ["none"] * 3
    splits = pl.DataFrame({"subject_id": [1, 3, 4], "split": ["train", "held_out", "train"]})
    meds.write(splits, "metadata/subject_splits.parquet")
    store = meds.prepare()
    assert dict(store.stays.select("stay_id", "set").iter_rows()) == {
        1001: "train",
        2001: "none",
        3001: "held_out",
    }
    assert store.manifest.drops["no_split"]["by_set"] == {"none": 1}
    assert store.manifest.drops["unmapped_code"]["by_set"] == {"train": 1, "held_out": 2}


def test_what_cannot_be_used_is_counted_by_rule(meds: Meds) -> None:
    bad = [
        (7, 1.0, "HR//x", None),
        (7, 1.0, "HR//x", float("nan")),
        (7, None, "HR//x", 80.0),
        (7, None, "MEDS_BIRTH", None),
        (None, 1.0, "HR//x", 80.0),
        (7, 2.0, "strange", 1.0),
        (7, 2.0, "TEMP", 37.0),  # no pattern matches it whole
        (9, 2.0, "HR//x", 80.0),  # a subject without a stay
        (7, 3.0, "HR//x", 80.0),
    ]
    meds.write(rows(*stay(7, 0, 9), *bad, *bad[-1:] * 2))
    store = meds.prepare()
    assert events(store) == [(7001, 3.0, "hr", 80.0)]
    assert drops(store) == {
        "no_value": 2,
        "no_time": 2,
        "no_subject": 1,
        "unmapped_code": 2,
        "outside_stays": 1,
        "duplicate_row": 2,
    }


Marks = st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(0, 12), st.booleans()), max_size=14)
Readings = st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(0, 12), st.integers(20, 99)), max_size=14)


def obvious(marks: Any, readings: Any) -> tuple[list[Any], list[Any]]:
    """Stays and events, by loops."""
    stays, found = [], []
    for subject in (1, 2):
        own = sorted((hour, is_start) for who, hour, is_start in marks if who == subject)
        pairs = [(here[0], there[0]) for here, there in pairwise(own) if here[1] and not there[1]]
        for ordinal, (start, end) in enumerate(pairs, 1):
            stays.append((subject * 1000 + ordinal, float(end - start)))
            last = ordinal == len(pairs) or pairs[ordinal][0] > end
            for who, hour, value in set(readings):
                if who == subject and start <= hour and (hour <= end if last else hour < end):
                    found.append((subject * 1000 + ordinal, float(hour - start), "hr", float(value)))
    return stays, sorted(found)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(marks=Marks, readings=Readings)
def test_stays_and_events_are_those_that_loops_find(meds: Meds, marks: Any, readings: Any) -> None:
    stays, found = obvious(marks, readings)
    named = [(who, float(hour), "IN//x" if is_start else "OUT_OF//x", None) for who, hour, is_start in marks]
    meds.write(rows(*((who, float(hour), "HR//x", float(value)) for who, hour, value in readings), *named))
    if not stays:
        with pytest.raises(ValueError, match="holds no stay"):
            meds.prepare()
        return
    store = meds.prepare()
    assert store.stays.select("stay_id", "length_hours").rows() == stays
    assert sorted(events(store)) == found
    kept = len({(who, hour, value) for who, hour, value in readings})
    assert drops(store).get("outside_stays", 0) == kept - len(found)
    assert drops(store).get("duplicate_row", 0) == len(readings) - kept
