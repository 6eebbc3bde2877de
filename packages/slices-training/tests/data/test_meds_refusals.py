"""Mappings and stays of MEDS datasets that cannot be meant."""

from __future__ import annotations

from typing import Any

import pytest

from meds_raw import MAPPING, RECORD, Meds, rows, stay
from slices.training.data.sources.meds import StayBounds


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("heart_rate: HR//*", "mapping .*: unknown variable 'heart_rate'.*There are: age, alb"),
        ("hrr: HR//*", r"mapping .*: unknown variable 'hrr': did you mean 'hr'.*vocabulary icu"),
        ("hr: HR//*\nresp: HR//x", r"the code 'HR//x' is claimed by hr \(HR//\*\) and resp \(HR//x\)"),
        ("hr: HR//[a-x]\nresp: '?R//x'", r"the code 'HR//x' is claimed by hr .* and resp"),
        ("hr: [HR//*, HR//*]", r"'HR//\*' is claimed by hr .* and hr"),
        ("hr: []", "hr: no code is given"),
        ("hr: [3]", "hr: 3 must be a code, or a mapping"),
        ("hr: {code: HR, faktor: 2}", "unknown option 'faktor': did you mean 'factor'"),
        ("hr: {factor: 2}", "hr: code is missing"),
        ("hr: {code: HR, factor: 2, value: 1}", "give value, or factor and offset, not both"),
        ("hr: {code: HR, value: years}", r"hr\.value: expected"),
        ("hr: {code: MEDS_BIRTH, value: age}", "hr: only a static variable can have the value 'age'"),
        ("age: {sum: [A, B]}", "age: the variable is static"),
        ("hr: [", "cannot be read as YAML"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused(meds: Meds, mapping: str, message: str) -> None:
    meds.write(RECORD)
    meds.mapping.write_text(mapping)
    with pytest.raises((ValueError, TypeError), match=message):
        meds.prepare()


def test_a_changed_mapping_is_noticed(meds: Meds) -> None:
    meds.write(RECORD)
    meds.prepare()
    meds.mapping.write_text(MAPPING.replace("factor: 0.5}", "factor: 0.45}"))
    meds.n_prepared = 0
    with pytest.raises(ValueError, match=r"is not the dataset asked for \(mapped: prepared with"):
        meds.prepare()


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ([mark for i in range(1000) for mark in stay(7, i, i + 0.5)], "subject 7 has more than 999 stays"),
        (stay(2**62, 0, 5), "subject 4611686018427387904: numbers beyond 9223372036854774 leave no room"),
        ([(7, 1.0, "HR//x", 80.0)], "the source 'meds' holds no stay: look at raw=/"),
    ],
)
def test_stays_that_cannot_be_numbered_are_refused(meds: Meds, marks: Any, message: str) -> None:
    meds.write(rows(*marks))
    with pytest.raises(ValueError, match=message):
        meds.prepare()


def test_a_code_that_starts_and_ends_stays_is_refused(meds: Meds) -> None:
    meds.write(RECORD)
    with pytest.raises(ValueError, match=r"0\.parquet: the code 'IN//x' both starts and ends a stay"):
        meds.prepare(stays=StayBounds(start="IN//*", end="*IN//*"))
