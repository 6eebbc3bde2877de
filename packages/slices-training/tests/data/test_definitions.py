"""Task definitions: from a mapping to typed objects to rows of the label table."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from slices.training.data import Tally, Variable
from slices.training.data.definitions import OUTCOME_SCHEMA, build_definitions, define, define_labels
from slices.training.data.labels import check_labels
from slices.training.data.schema import EVENT_SCHEMA, LABEL_SCHEMA, STAY_SCHEMA

KIDNEY = (
    Variable(name="crea", unit="mg/dL", low=0.05, high=40),
    Variable(name="urine", unit="mL", low=0, high=5000, aggregate="sum"),
    Variable(name="weight", unit="kg", low=20, high=400, static=True),
)
STAYS = pl.DataFrame(
    [(1, 1, "a", 30.0), (2, 2, "a", 24.0), (3, 3, "b", 100.0), (4, 4, "b", 2.5), (5, 5, "b", 48.0)],
    STAY_SCHEMA,
    orient="row",
)
OUTCOMES = pl.DataFrame(
    [
        (1, True, True, 30.0, 30.0),
        (2, False, False, None, 400.0),
        (3, False, True, 200.0, 200.0),
        (4, True, True, 2.5, 2.5),
        (77, True, True, 2.5, 2.5),  # of another chunk
    ],
    OUTCOME_SCHEMA,
    orient="row",
)
NO_EVENTS = EVENT_SCHEMA.to_frame()


def labels(options: dict[str, Any], outcomes: pl.DataFrame = OUTCOMES) -> tuple[dict[Any, Any], Tally]:
    """``{(stay, time): value}``, and what was counted; they are labels that the dataset would take."""
    definitions = build_definitions({"task": options})
    tally = Tally()
    table = define_labels(definitions, STAYS, NO_EVENTS, outcomes, KIDNEY, tally)
    assert table.schema == LABEL_SCHEMA and set(table["column"]) <= {0}
    check_labels(table, {"task": definitions[0].task})
    return {(stay, time): value for _, stay, time, _, value in table.iter_rows()}, tally


def test_mortality_is_asked_of_those_who_are_still_there() -> None:
    icu, tally = labels({"kind": "mortality", "at": 24})
    assert icu == {(1, 24.0): 1.0, (3, 24.0): 0.0}
    counted = {rule: entry["by_set"] for rule, entry in tally.rules.items()}
    assert counted == {"task_too_short": {"a": 1, "b": 1}, "task_unknown": {"b": 1}}
    assert tally.rules["task_too_short"]["description"] == "task: a stay that ends by 24 h; no label"
    hospital, _ = labels({"kind": "mortality", "where": "hospital", "at": 12.0})
    assert hospital == {(1, 12.0): 1.0, (2, 12.0): 0.0, (3, 12.0): 1.0}


def test_a_death_before_the_prediction_is_no_prediction() -> None:
    outcomes = OUTCOMES.with_columns(death_hours=pl.when(stay_id=3).then(20.0).otherwise("death_hours"))
    given, tally = labels({"kind": "mortality", "where": "hospital"}, outcomes)
    assert given == {(1, 24.0): 1.0}
    assert tally.rules["task_died_before"]["by_set"] == {"b": 1}
    without_times, _ = labels({"kind": "mortality"}, outcomes.drop("death_hours", "hospital_hours"))
    assert without_times == {(1, 24.0): 1.0, (3, 24.0): 0.0}


def test_length_of_stay_in_days_or_classes() -> None:
    days, _ = labels({"kind": "length_of_stay"})
    assert days == pytest.approx({(1, 24.0): 1.25, (3, 24.0): 100 / 24, (5, 24.0): 2.0})
    classes, _ = labels({"kind": "length_of_stay", "edges": [2, 4]})
    assert classes == {(1, 24.0): 0.0, (3, 24.0): 2.0, (5, 24.0): 1.0}
    (definition,) = build_definitions({"days": {"kind": "length_of_stay", "edges": [2, 4]}})
    assert definition.task.classes == ("under 2 days", "2 to 4 days", "4 days or more")
    hospital, tally = labels({"kind": "length_of_stay", "where": "hospital", "at": 2})
    assert hospital[2, 2.0] == pytest.approx(400 / 24) and (5, 2.0) not in hospital
    assert tally.rules["task_unknown"]["count"] == 1


def test_remaining_length_of_stay_counts_down_to_the_end() -> None:
    given, tally = labels({"kind": "remaining_length_of_stay", "every": 1.0})
    assert [given.get((4, float(hour))) for hour in (1, 2, 3)] == [1.5, 0.5, None]
    assert sorted(time for stay, time in given if stay == 2) == [float(hour) for hour in range(1, 24)]
    assert not tally.rules
    capped, tally = labels({"kind": "remaining_length_of_stay", "every": 4, "cap": 24})
    assert [capped[3, hour] for hour in (4.0, 76.0, 80.0, 96.0)] == [24.0, 24.0, 20.0, 4.0]
    assert tally.rules["task_too_short"]["by_set"] == {"b": 1}
    tenths, _ = labels({"kind": "remaining_length_of_stay", "every": 0.1})
    assert len([time for stay, time in tenths if stay == 5]) == 479


def test_several_definitions_make_one_table() -> None:
    definitions = build_definitions({"b": {"kind": "mortality"}, "a": {"kind": "length_of_stay"}})
    table = define_labels(definitions, STAYS, NO_EVENTS, OUTCOMES, KIDNEY, Tally())
    assert table["task"].unique(maintain_order=True).to_list() == ["b", "a"]
    assert [definition.task.name for definition in definitions] == ["b", "a"]
    assert define_labels((), STAYS, NO_EVENTS, OUTCOMES, KIDNEY, Tally()).schema == LABEL_SCHEMA
    none = define_labels(definitions, STAYS.clear(), NO_EVENTS, OUTCOMES, KIDNEY, Tally())
    assert none.is_empty() and none.schema == LABEL_SCHEMA


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kind": "mortalty"}, ValueError, "unknown task definition 'mortalty': did you mean 'mortality'"),
        ({"at": 24}, ValueError, "definition 'x': kind is missing.*There are: kdigo_aki, length_of_stay"),
        ({"kind": "mortality", "at_hours": 24}, ValueError, r"definition 'x' \(mortality\).*'at_hours'"),
        ({"kind": "mortality", "name": "y"}, ValueError, "definition 'x': its key is its name"),
        ({"kind": "mortality", "where": "ward"}, ValueError, "where"),
        ({"kind": "mortality", "at": 0}, ValueError, r"at=0\.0: allowed is a positive number of hours"),
        ({"kind": "mortality", "at": "24"}, TypeError, "expected float"),
        ({"kind": "length_of_stay", "edges": [3, 3]}, ValueError, r"edges=\[3.0, 3.0\].*ascending"),
        ({"kind": "length_of_stay", "edges": [0]}, ValueError, r"edges=\[0.0\].*positive"),
        ({"kind": "remaining_length_of_stay", "every": 0.001}, ValueError, "every=0.001.*whole minutes"),
        ({"kind": "remaining_length_of_stay", "cap": 0.0}, ValueError, "cap=0.0"),
        ({"kind": "kdigo_aki", "stage": 4}, ValueError, "stage=4: allowed is 1, 2 or 3"),
        ({"kind": "kdigo_aki", "within": -1}, ValueError, "within=-1"),
    ],
)
def test_a_mistake_in_a_definition_is_named(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build_definitions({"x": options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"kind": "mortality", "where": "hospital"},
            r"'x' \(mortality\) needs an outcome: .*died_in_hospital",
        ),
        ({"kind": "length_of_stay", "where": "hospital"}, "needs an outcome: .*hospital_hours"),
        ({"kind": "kdigo_aki", "crea": "creatinin"}, r"'x' \(kdigo_aki\) needs a variable: .*'creatinin'"),
        ({"kind": "kdigo_aki", "urine": "crea"}, "needs crea in mL, the source has it in mg/dL: convert it"),
        ({"kind": "kdigo_aki", "weight": "mass"}, "needs a variable: .*'mass'"),
    ],
)
def test_what_a_source_lacks_is_named(options: Any, message: str) -> None:
    (definition,) = build_definitions({"x": options})
    with pytest.raises(ValueError, match=message):
        define(definition, STAYS, NO_EVENTS, OUTCOMES.select("stay_id", "died_in_icu"), KIDNEY)


def test_two_rows_of_outcomes_are_refused() -> None:
    (definition,) = build_definitions({"x": {"kind": "mortality"}})
    with pytest.raises(ValueError, match="stay 1 has more than one row of outcomes"):
        define(definition, STAYS, NO_EVENTS, pl.concat([OUTCOMES, OUTCOMES.head(1)]), KIDNEY)
