"""What somebody who trains on a dataset would want to be told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from slices.training.data.report.model import TaskReport, Values, VariableReport
from slices.training.data.report.variables import unscaled
from slices.training.data.schema import Variable
from slices.training.report.cells import count

AT_ONE_END = 0.05
FEW = 20  # stays


def concerns(
    variables: Sequence[VariableReport], tasks: Sequence[TaskReport], min_patients: int
) -> tuple[str, ...]:
    """One sentence each: about variables first, in their order, then about tasks."""
    return tuple(
        [sentence for one in variables for sentence in _of_variable(one, min_patients)]
        + [sentence for one in tasks for sentence in _of_task(one, min_patients)]
    )


def _of_variable(report: VariableReport, min_patients: int) -> Iterator[str]:
    variable, values, name = report.variable, report.values, report.variable.name
    if values is None:
        yield f"{name} is never measured"
        return
    if report.sampling.stays < min_patients:
        yield f"{name} is measured in fewer than {min_patients} stays"
        return
    if values.is_constant:
        yield f"{name} is always {values.quantiles[0]:g}: only that it is there can tell anything"
    elif not values.is_flag:
        for share, end in ((values.at_low, variable.low), (values.at_high, variable.high)):
            if share > AT_ONE_END:
                yield (
                    f"{name}: {share:.1%} of the values are {end:g}, an end of its range: "
                    "is it where the instrument ends, or are they clipped?"
                )
    yield from _sets_apart(variable, values)


def _sets_apart(variable: Variable, values: Values) -> Iterator[str]:
    medians = values.set_medians
    if len(medians) < 2 or not values.spread:
        return
    lowest, highest = min(medians, key=medians.__getitem__), max(medians, key=medians.__getitem__)
    apart = (medians[highest] - medians[lowest]) / values.spread
    if apart > 1:
        low, high = (unscaled(medians[of], variable) for of in (lowest, highest))
        yield (
            f"{variable.name}: the median is {low:.4g} in {lowest} and {high:.4g} in {highest}, "
            f"{apart:.1f} robust standard deviations apart: is it the same thing in the same unit?"
        )


def _of_task(report: TaskReport, min_patients: int) -> Iterator[str]:
    task = report.task
    if not report.overall.labels:
        yield f"task {task.name} has no label"
        return
    asked = task.classes[1:] if task.task_type == "binary" else task.classes
    for name in asked:
        if (stays := report.stays_with[name]) < FEW:
            shown = count(stays, min_patients)
            yield f"task {task.name}: only {shown} stays have {name!r}: scores of so few say little"
