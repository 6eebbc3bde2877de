"""The report of a dataset: its numbers against a slow reading, its warnings, and the page."""

from __future__ import annotations

import math
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slices.training.data import StayStore, TaskInfo, Variable, build_source, prepare_dataset
from slices.training.data.report import Report, describe_dataset, report_html, report_text
from slices.training.data.report.measurements import measure
from slices.training.data.report.model import QUANTILES, Sampling
from slices.training.data.report.tasks import describe_tasks

DIED = TaskInfo(name="died", task_type="binary", classes=("no", "yes"))


def slowly(store: StayStore, position: int) -> Sampling:
    """How often a variable is measured, stay by stay."""
    times = [
        store.time[a:b][store.variable[a:b] == position].tolist()
        for a, b in zip(store.offsets[:-1], store.offsets[1:], strict=True)
    ]
    hours = [max(math.ceil(length), 1) for length in store.length_hours]
    having = [(of, hour) for of, hour in zip(times, hours, strict=True) if of]
    gaps = [b - a for of, _ in having for a, b in pairwise(of)]
    static, n_events = store.variables[position].static, sum(map(len, times))
    cells = sum(len({min(int(t), hour - 1) for t in of}) for of, hour in having)
    return Sampling(
        events=n_events,
        stays=len(having),
        share=len(having) / len(store),
        per_stay=float(np.median([len(of) for of, _ in having])) if having else None,
        per_hour=n_events / sum(hour for _, hour in having) if having and not static else None,
        gap=float(np.median(gaps)) if gaps and not static else None,
        cells=None if static else cells / sum(hours),
    )


def assert_alike(given: Sampling, expected: Sampling) -> None:
    for name in Sampling.__dataclass_fields__:
        one, other = getattr(given, name), getattr(expected, name)
        assert one == (other if other is None else pytest.approx(other, rel=1e-6)), name


def test_counts_are_what_a_slow_reading_gives(synthetic: StayStore) -> None:
    report = describe_dataset(synthetic)
    for position, one in enumerate(report.variables):
        assert_alike(one.sampling, slowly(synthetic, position))
        values = np.asarray(synthetic.value[np.asarray(synthetic.variable) == position], dtype=float)
        assert one.values is not None
        assert one.values.quantiles == pytest.approx(np.quantile(values, QUANTILES), rel=1e-5)
        assert one.values.at_high == pytest.approx(np.mean(values == np.float32(one.variable.high)))
        assert 0.95 * len(values) < sum(one.values.histogram) <= len(values)


def test_edges_of_stays_and_variables(tmp_path: Path, table_source: Any) -> None:
    stays = [(1, 1, "a", 2.5), (2, 2, "a", 48.0), (3, 3, "b", 0.0), (4, 4, None, 1.0)]
    events = [
        (1, 0.0, 0, 80.0),
        (1, 0.0, 0, 81.0),  # twice at one time
        (1, 2.2, 0, 82.0),
        (1, 0.0, 3, 60.0),
        (2, 47.5, 0, 70.0),
        (2, 48.0, 0, 71.0),  # joins the last hour
        (3, 0.0, 0, 75.0),
    ]
    store = prepare_dataset(table_source(stays, events), tmp_path / "d")
    report = describe_dataset(store)
    for position, one in enumerate(report.variables):
        assert_alike(one.sampling, slowly(store, position))
    heart_rate, _, never, age = report.variables
    assert heart_rate.sampling.cells == pytest.approx(4 / 53) and heart_rate.sampling.per_stay == 2
    assert never.values is None and never.sampling.share == 0
    assert age.sampling.gap is None and age.values is not None and age.values.histogram == (1,)
    assert report.sets == {"a": 2, "b": 1, "none": 1} and report.without_events == 1
    assert "never_measured is never measured" in report.warnings


@pytest.mark.parametrize("block", [1, 700, 10**9])
def test_blocks_change_nothing(synthetic: StayStore, block: int) -> None:
    for given, expected in zip(measure(synthetic, block=block), measure(synthetic), strict=True):
        for one, other in zip(given, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_of_many_events_a_sample_of_stays_gives_the_quantiles(synthetic: StayStore) -> None:
    whole, sampled = describe_dataset(synthetic), describe_dataset(synthetic, most=60_000)
    assert whole.sampled is None and sampled.sampled and 100 < sampled.sampled < 200
    differing = 0
    for one, other in zip(whole.variables, sampled.variables, strict=True):
        assert one.values and other.values
        assert (one.sampling.events, one.sampling.cells) == (other.sampling.events, other.sampling.cells)
        assert sum(other.values.histogram) < 0.7 * sum(one.values.histogram)
        assert abs(one.values.quantiles[2] - other.values.quantiles[2]) <= max(one.values.spread * 60, 1)
        differing += one.values.quantiles != other.values.quantiles
    assert differing > 20
    again = describe_dataset(synthetic, most=60_000)
    assert again.variables == sampled.variables
    assert f"those of {sampled.sampled} stays" in report_text(sampled)


def test_labels_are_summed_up_for_all_and_by_set(synthetic: StayStore) -> None:
    report = describe_dataset(synthetic)
    tasks = {one.task.name: one for one in report.tasks}
    assert tasks.keys() == synthetic.manifest.tasks.keys()
    died = synthetic.labels("in_hospital_mortality")["value"]
    mortality = tasks["in_hospital_mortality"]
    assert mortality.overall.numbers == pytest.approx({"survived": 1 - died.mean(), "died": died.mean()})
    assert mortality.stays_with["died"] == died.sum() and mortality.first_time == 48
    days = synthetic.labels("length_of_stay")["value"]
    assert tasks["length_of_stay"].overall.numbers["mean"] == pytest.approx(days.mean())
    assert tasks["length_of_stay"].overall.numbers["median"] == pytest.approx(days.median())
    hourly = tasks["deterioration"]
    assert (hourly.first_time, hourly.last_time) == (1, 48)
    assert (hourly.overall.stays, hourly.overall.labels) == (300, 300 * 48)
    rows = synthetic.labels("organ_failure")
    for column, name in enumerate(synthetic.manifest.tasks["organ_failure"].classes):
        of_class = rows.filter(column=column)["value"]
        assert tasks["organ_failure"].overall.numbers[name] == pytest.approx(of_class.mean())
        assert tasks["organ_failure"].stays_with[name] == of_class.sum()


def test_blocks_of_labels_change_nothing(synthetic: StayStore) -> None:
    for one, other in zip(describe_tasks(synthetic, block=701), describe_tasks(synthetic), strict=True):
        assert one.overall.numbers == pytest.approx(other.overall.numbers)
        assert (one.stays_with, one.last_time) == (other.stays_with, other.last_time)
        assert one.by_set["synthetic"].stays == other.by_set["synthetic"].stays == one.overall.stays


def test_of_many_labels_a_sample_gives_the_quantiles(synthetic: StayStore) -> None:
    def days(most: int) -> dict[str, float]:
        tasks = {one.task.name: one.overall for one in describe_tasks(synthetic, most=most)}
        assert tasks["length_of_stay"].labels == 300
        return tasks["length_of_stay"].numbers

    whole, sampled = days(10**9), days(8_000)  # of 16,800
    assert whole["mean"] == sampled["mean"] and whole["99%"] != sampled["99%"]
    assert whole["median"] == pytest.approx(sampled["median"], rel=0.3)


def planted(tmp_path: Path, table_source: Any) -> Report:
    """60 stays in two sets, with one thing wrong in each variable, and five deaths."""
    variables = (
        Variable(name="shifted", unit="mg/dL", low=0, high=1000, transform="log"),
        Variable(name="alike", unit="bpm", low=0, high=300),
        Variable(name="capped", unit="%", low=0, high=100),
        Variable(name="constant"),
        Variable(name="never"),
        Variable(name="flag", low=0, high=1),
    )
    rng = np.random.default_rng(0)
    stays = [(i, i, "ab"[i % 2], 48.0) for i in range(60)]
    events = [
        (i, float(hour), variable, value)
        for i in range(60)
        for hour in range(10)
        for variable, value in enumerate(
            [
                (100.0 if i % 2 else 10.0) * rng.lognormal(0, 0.2),
                80 + 10 * rng.standard_normal(),
                100.0 if rng.random() < 0.2 else rng.uniform(50, 99),
                1.0,
            ]
        )
    ]
    events += [(i, 0.0, 5, float(i % 2)) for i in range(60)] + [(i, 1.0, 1, -5.0) for i in range(7)]
    labels = [("died", i, 48.0, 0, float(i < 5)) for i in range(50)]
    empty = TaskInfo(name="empty", task_type="regression")
    source = table_source(stays, events, labels, (DIED, empty), variables)
    return describe_dataset(prepare_dataset(source, tmp_path / "d"))


def test_warnings_name_what_is_odd_and_nothing_else(tmp_path: Path, table_source: Any) -> None:
    report = planted(tmp_path, table_source)
    shifted, capped, constant, never, died, empty = report.warnings
    assert shifted.startswith("shifted: the median is ") and "in a and" in shifted
    assert capped.startswith("capped: ") and "values are 100, an end of its range" in capped
    assert constant.startswith("constant is always 1") and never == "never is never measured"
    assert died.startswith("task died: only <10 stays have 'yes'") and empty == "task empty has no label"
    medians = report.variables[0].values.set_medians  # type: ignore[union-attr]
    assert math.expm1(medians["a"]) == pytest.approx(10, rel=0.1)
    text = report_text(report)
    assert text.startswith("Warnings\n! shifted: ")
    assert "out_of_range" in text and "a 4, b 3" in text  # what was dropped, by set


def test_small_groups_are_not_shown(tmp_path: Path, table_source: Any, stays_of_48_hours: Any) -> None:
    variables = (Variable(name="common"), Variable(name="rare"))
    events = [(stay, 1.0, 0, 5.0) for stay in range(1, 31)] + [(stay, 2.0, 1, 7654.0) for stay in (1, 2)]
    labels = [("died", stay, 48.0, 0, float(stay < 4)) for stay in range(1, 31)]
    store = prepare_dataset(
        table_source(stays_of_48_hours(30), events, labels, (DIED,), variables), tmp_path / "d"
    )
    hidden, shown = (describe_dataset(store, min_patients=least) for least in (10, 1))
    for written in (report_text, report_html):
        assert "7,654" in written(shown) and "90.0%" in written(shown)
        assert "7,654" not in written(hidden) and "90.0%" not in written(hidden)
        assert "rare is measured in fewer than 10 stays" in written(hidden)


class Balance(HTMLParser):
    """Raises where an element is closed that is not the last one opened; keeps the text."""

    VOID = frozenset({"meta", "link", "br", "img", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        self.text += data


def read_page(page: str) -> Balance:
    parser = Balance()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def test_the_page_is_whole_and_needs_nothing_else(synthetic: StayStore) -> None:
    report = describe_dataset(synthetic)
    page = report_html(report)
    parser = read_page(page)
    tags = [tag for tag, _ in parser.seen]
    assert page.startswith("<!DOCTYPE html>") and not {"script", "link", "img", "iframe"} & set(tags)
    assert not [name for _, attributes in parser.seen for name in attributes if name in ("src", "href")]
    assert "url(" not in page and "@import" not in page
    assert tags.count("svg") == len(report.variables)
    assert all(attributes["aria-label"] for tag, attributes in parser.seen if tag == "svg")
    assert all(attributes["scope"] for tag, attributes in parser.seen if tag == "th")
    assert "prefers-color-scheme: dark" in page and ("html", {"lang": "en"}) in parser.seen
    for one in report.variables:
        assert one.variable.name in parser.text and one.variable.unit in parser.text


def test_names_are_escaped_wherever_they_stand(tmp_path: Path, table_source: Any) -> None:
    evil = "<script>alert('\"&1')</script>"
    task = TaskInfo(name=f"task {evil}", task_type="binary", classes=(f"no {evil}", f"yes {evil}"))
    variables = (
        Variable(name=f"variable {evil}", unit=f"unit {evil}", low=0, high=9),
        Variable(name=f"never {evil}"),
    )
    source = table_source(
        [(1, 1, f"set {evil}", 48.0), (2, 2, "b", 48.0)],
        [(1, 1.0, 0, 5.0), (1, 2.0, 0, 6.0), (2, 3.0, 0, 99.0)],
        [(task.name, 1, 48.0, 0, 1.0), (task.name, 2, 48.0, 0, 0.0)],
        (task,),
        variables,
    )
    page = report_html(describe_dataset(prepare_dataset(source, tmp_path / "d"), min_patients=1))
    parser = read_page(page)
    assert "script" not in {tag for tag, _ in parser.seen} and "<script" not in page
    for what in ("variable", "unit", "never", "set", "task", "no", "yes"):
        assert f"{what} {evil}" in parser.text
    labels = [attributes["aria-label"] for tag, attributes in parser.seen if tag == "svg"]
    assert labels == [f"variable {evil} from 5.01 to 5.99"]


def test_a_dataset_without_events_or_tasks(tmp_path: Path, table_source: Any) -> None:
    report = describe_dataset(prepare_dataset(table_source([(1, 1, "a", 48.0)], []), tmp_path / "d"))
    assert [one.sampling.events for one in report.variables] == [0, 0, 0, 0] and report.tasks == ()
    read_page(report_html(report))
    assert "hr is never measured" in report_text(report)


@pytest.mark.slow
def test_real_stays(shared_data: Path, tmp_path: Path) -> None:
    raw = shared_data / "physionet2012"
    source = build_source({"name": "physionet2012", "raw": str(raw), "sets": ("a",)})
    report = describe_dataset(prepare_dataset(source, tmp_path / "d"))
    tasks = {one.task.name: one for one in report.tasks}
    assert tasks["in_hospital_mortality"].overall.numbers["died"] == pytest.approx(554 / 4000)
    assert "MechVent is always 1: only that it is there can tell anything" in report.warnings
    assert "pH_times_100" in report_text(report)
    read_page(report_html(report))
