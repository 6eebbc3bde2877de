"""What a user says of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from slices.encoders.registry import make_config
from slices.training.data.schema import TaskInfo
from slices.training.ranges import require_at_least_one

TimeUnit = Literal["hours", "minutes", "seconds", "days"]


@dataclass(kw_only=True)
class TableColumns:
    """What the columns are called: four of the table, then those that a stays file may have.

    ``time_unit``: what times and lengths that are numbers count, in all files.
    """

    stay: str = "stay_id"
    time: str = "time"
    variable: str = "variable"
    value: str = "value"
    patient: str = "patient_id"
    set: str = "set"
    admission: str = "admission_time"
    length: str = "length_hours"
    time_unit: TimeUnit = "hours"


@dataclass(kw_only=True)
class TableConfig:
    """Where the table lies (a file, a folder or a glob of several), and what it means.

    ``stays``: a file with one row a stay, ``statics`` the columns in it that are variables; of a text, one
    for each category that at least ``min_category`` stays have. ``labels``: a file with the columns task,
    that of the stay, prediction_time, value and, for multilabel tasks, column, for survival, event (0:
    censored, 1: the first of the task's classes);
    ``tasks`` says of each task what the fields of ``TaskInfo`` say. ``vocabulary`` chooses and describes
    the variables; without one every name in the table is a variable. ``sentinels`` are values that stand
    for unknown.
    """

    raw: str = field(default="data/table", metadata={"content": False})
    stays: str | None = field(default=None, metadata={"content": False})
    labels: str | None = field(default=None, metadata={"content": False})
    vocabulary: str | None = None
    columns: TableColumns = field(default_factory=TableColumns)
    statics: tuple[str, ...] = ()
    min_category: int = 10
    sentinels: tuple[float, ...] = ()
    tasks: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_at_least_one(self, "min_category")
        if self.statics and self.stays is None:
            raise ValueError(f"statics={list(self.statics)} are columns of the stays file: give `stays` too")
        if bool(self.tasks) != (self.labels is not None):
            raise ValueError(f"labels={self.labels!r}, tasks={list(self.tasks)}: give both or neither")
        self.task_infos()

    def task_infos(self) -> tuple[TaskInfo, ...]:
        """The tasks. Raises ``ValueError`` or ``TypeError`` for what cannot be one."""
        return tuple(_task(name, given) for name, given in self.tasks.items())


def _task(name: str, given: Any) -> TaskInfo:
    if not isinstance(given, Mapping):
        raise TypeError(f"tasks.{name}: {given!r} must be a mapping, as in {{task_type: binary}}")
    classes = {"classes": ("negative", "positive")} if given.get("task_type") == "binary" else {}
    task: TaskInfo = make_config(TaskInfo, {"name": name} | classes | dict(given), f"tasks.{name}")
    return task
