"""What a report shows, in tables of cells that text and HTML each draw in their own way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from slices.training.data.report.model import (
    QUANTILE_NAMES,
    LabelSummary,
    Report,
    TaskReport,
    VariableReport,
)
from slices.training.data.sampling import MOST
from slices.training.report.cells import UNKNOWN, Cell, Histogram, Share, Table, count, number


def tables(report: Report) -> list[Table]:
    """All of a report but for its warnings, in the order of reading."""
    return [
        _dataset(report),
        _stays(report),
        _sampling(report),
        _values(report),
        _tasks(report),
        *(_labels(task, report.min_patients) for task in report.tasks if task.overall.labels),
        _drops(report.manifest.drops),
    ]


def _dataset(report: Report) -> Table:
    manifest, source = report.manifest, report.manifest.source
    facts = {
        "place": report.directory,
        "source": f"{source['name']} (version {source['version']})",
        **{f"option {key}": str(value) for key, value in source["options"].items()},
        "prepared": manifest.created,
        "described": report.described,
        "versions": ", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
        "fingerprint": manifest.fingerprint,
    }
    return Table("Dataset", "", ("", ""), [(key, value) for key, value in facts.items()], words=2)


def _stays(report: Report) -> Table:
    counts = report.manifest.counts
    least = report.min_patients
    rows: list[tuple[Cell, ...]] = [
        (name, count(counts[name], least), *([""] * len(QUANTILE_NAMES))) for name in ("stays", "patients")
    ]
    rows += [
        (f"stays of set {name}", count(n, least), *([""] * len(QUANTILE_NAMES)))
        for name, n in report.sets.items()
    ]
    rows += [
        ("stays without an event", count(report.without_events, least), *([""] * len(QUANTILE_NAMES))),
        ("events in all, and a stay", number(counts["events"]), *map(number, report.events_per_stay)),
        ("length of a stay (h)", "", *map(number, report.lengths)),
    ]
    return Table("Stays", "Quantiles are over the stays.", ("", "number", *QUANTILE_NAMES), rows)


def _is_rare(one: VariableReport, report: Report) -> bool:
    return 0 < one.sampling.stays < report.min_patients


def _sampling(report: Report) -> Table:
    note = (
        "How often each variable is measured. Measurements a stay: the median of the stays that have it; an "
        "hour: over the hours of these stays; gap: the median time between two. Hours observed: the share of "
        "all hours of all stays in which there is one; the rest is missing."
    )
    columns = (
        "variable",
        "unit",
        "kind",
        "stays that have it",
        "a stay",
        "an hour",
        "gap (h)",
        "hours observed",
    )
    rows: list[tuple[Cell, ...]] = [
        (
            one.variable.name,
            one.variable.unit or UNKNOWN,
            "static" if one.variable.static else "dynamic",
            *_how_often(one, report),
        )
        for one in report.variables
    ]
    return Table("Variables: sampling", note, columns, rows, words=3)


def _how_often(one: VariableReport, report: Report) -> tuple[Cell, ...]:
    sampling = one.sampling
    if _is_rare(one, report):
        return (count(sampling.stays, report.min_patients), *[UNKNOWN] * 4)
    return (
        Share(sampling.share),
        number(sampling.per_stay),
        number(sampling.per_hour),
        number(sampling.gap),
        UNKNOWN if sampling.cells is None else Share(sampling.cells),
    )


def _values(report: Report) -> Table:
    note = "Quantiles of the values in their units, and how they are spread from the first to the last."
    if report.sampled:
        note += f" They and all medians above are those of {report.sampled:,} stays, drawn by their ids."
    columns = ("variable", "unit", "scale", "plausible", *QUANTILE_NAMES, "distribution")
    rows = [_values_row(one, shown=not _is_rare(one, report)) for one in report.variables]
    return Table("Variables: values", note, columns, rows, words=4)


def _values_row(one: VariableReport, *, shown: bool) -> tuple[Cell, ...]:
    variable, values = one.variable, one.values
    ends = (f"{end:g}" if math.isfinite(end) else "any" for end in (variable.low, variable.high))
    described: tuple[Cell, ...] = tuple([UNKNOWN] * (len(QUANTILE_NAMES) + 1))
    if values and shown:
        what = f"{variable.name} from {number(values.quantiles[0])} to {number(values.quantiles[-1])}"
        described = (*map(number, values.quantiles), Histogram(values.histogram, what))
    scale = "log" if variable.transform == "log" else "linear"
    return (variable.name, variable.unit or UNKNOWN, scale, " to ".join(ends), *described)


def _tasks(report: Report) -> Table:
    columns = ("task", "type", "predicted at (h)", "stays labelled", "labels")
    rows: list[tuple[Cell, ...]] = [
        (
            one.task.name,
            one.task.task_type + (", one a step" if one.task.per_step else ""),
            " to ".join(dict.fromkeys(map(number, (one.first_time, one.last_time)))),
            count(one.overall.stays, report.min_patients),
            number(one.overall.labels),
        )
        for one in report.tasks
    ]
    return Table("Tasks", "", columns, rows, words=3)


def _labels(one: TaskReport, least: int) -> Table:
    groups = {"all": one.overall}
    if len(one.by_set) > 1:
        groups |= {f"set {name}": of_set for name, of_set in one.by_set.items()}
    stays: tuple[Cell, ...] = ("stays labelled", *(count(of.stays, least) for of in groups.values()))
    title = f"Labels of {one.task.name}"
    if one.task.task_type == "regression":
        note = f"Quantiles of more than {MOST:,} labels are those of a sample of stays."
        numbers: list[tuple[Cell, ...]] = [
            (name, *(number(of.numbers.get(name) if of.stays >= least else None) for of in groups.values()))
            for name in one.overall.numbers
        ]
        return Table(title, note, ("", *groups), [stays, *numbers])
    shares: list[tuple[Cell, ...]] = [
        (
            name,
            *(UNKNOWN if _tells_of_few(of, least) else Share(of.numbers[name]) for of in groups.values()),
            count(one.stays_with[name], least),
        )
        for name in one.overall.numbers
    ]
    note = "Shares of the labels; stays: how many ever have one."
    return Table(title, note, ("", *groups, "stays"), [(*stays, ""), *shares])


def _tells_of_few(of: LabelSummary, least: int) -> bool:
    """Would the shares of the classes, of which one follows from the others, tell of a small group?"""
    return of.stays < least or any(0 < share * of.labels < least - 0.5 for share in of.numbers.values())


def _drops(drops: Mapping[str, Mapping[str, Any]]) -> Table:
    note = (
        "What was left out, repaired or moved on the way in, by the rule that did it."
        if drops
        else "Nothing."
    )
    rows: list[tuple[Cell, ...]] = [
        (
            rule,
            entry["description"],
            ", ".join(f"{k} {number(n)}" for k, n in entry["by_set"].items()),
            number(entry["count"]),
        )
        for rule, entry in sorted(drops.items(), key=lambda item: -item[1]["count"])
    ]
    return Table(
        "Dropped, repaired and clipped", note, ("rule", "what it is", "by set", "number"), rows, words=3
    )
