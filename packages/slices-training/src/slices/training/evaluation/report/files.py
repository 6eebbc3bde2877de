"""Prediction files, of our apps or anybody's, as rows of one model each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import numpy as np
import polars as pl

from slices.encoders.registry import unknown
from slices.heads import TaskType
from slices.training.evaluation.bootstrap import Array

KEY = ("stay_id", "prediction_time", "step")  # what tells a row from the others; 0 where the time does
TYPES: dict[str, Any] = {
    "stay_id": pl.Int64,
    "patient_id": pl.Int64,
    "prediction_time": pl.Float64,
    "step": pl.Int64,
    "output": pl.Int64,
    "prediction": pl.Float64,
    "label": pl.Float64,
    "split": pl.String,
    "task": pl.String,
    "task_type": pl.String,
    "model": pl.String,
    "event": pl.Int64,
    "until": pl.Float64,
    "label_time": pl.Float64,
    "label_event": pl.Float64,
}
QUANTILE = re.compile(r"q(0?\.\d+)")
SURVIVAL = ("event", "until", "label_time", "label_event")
NEEDED = ("stay_id", "prediction", "label")
NO_TIME = -1.0  # a stay that is predicted once, or step by step


class Rows(NamedTuple):
    """The labelled rows of one model in one split, sorted by key.

    ``about`` has the columns of ``KEY`` and ``patient_id``. ``label`` and ``prediction`` are as the weighted
    metrics take them: binary ``(N,)`` and the probability of class 1; multiclass the class ``(N,)`` and
    ``(N, C)``; multilabel and several targets ``(N, C)``, NaN where a label is missing.
    Survival: hours and event ``(N, 2)``, and the incidence of each event ``until`` (K,) hours, ``(N, R, K)``.
    ``quantiles``, by level, have the shape of ``prediction``.
    """

    about: pl.DataFrame
    label: Array
    prediction: Array
    quantiles: Mapping[float, Array] = MappingProxyType({})
    until: Array = np.zeros(0)


class Contents(NamedTuple):
    """What some files hold: one task, and for each model its rows by split; in survival until which hours."""

    task: str
    task_type: TaskType
    models: dict[str, dict[str, Rows]]
    until: Array = np.zeros(0)


def read_predictions(
    files: Sequence[str] | Mapping[str, str] | None,
    task_type: TaskType | None = None,
    task: str | None = None,
) -> Contents:
    """Parquet or CSV with ``stay_id``, ``prediction``, ``label``, and what more ``write_predictions`` writes.

    Without ``patient_id`` each stay is a patient; without ``output`` the prediction is the probability of
    class 1, or the value; without ``split`` all rows are test rows. Columns ``q0.1``, ``q0.9`` are quantiles.

    Args:
        files: paths of files or of folders with ``predictions.parquet``; a mapping names their models, a
            list leaves it to the column ``model``, or to the folder where names repeat.
        task_type: for files without that column.
        task: the one to judge, where files have several.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file, a column or a value that cannot be, different tasks, or no test rows.
    """
    if not files:
        raise ValueError("predictions: none are given: name files, as in predictions=[a/predictions.parquet]")
    named = files.items() if isinstance(files, Mapping) else [(None, file) for file in files]
    tables = _by_model([(name, _table(Path(file), task)) for name, file in named])
    tasks = {name: sorted(set(table["task"].unique())) for name, table in tables.items()}
    if len({task for of_model in tasks.values() for task in of_model}) > 1:
        raise ValueError(
            f"predictions of different tasks cannot be compared: {tasks}; name one, as in "
            f"task_name={next(iter(tasks.values()))[0]}"
        )
    kind = _task_type(tables, task_type)
    models = {
        name: {
            str(split): _rows(f"model {name!r}, split {split!r}", part, kind)
            for (split,), part in table.group_by("split", maintain_order=True)
        }
        for name, table in tables.items()
    }
    for name, splits in models.items():
        if "test" not in splits:
            raise ValueError(f"model {name!r} has no labelled rows of split 'test', only of {sorted(splits)}")
    grids = {name: of_model["test"].until for name, of_model in models.items()}
    (first, until), *others = grids.items()
    for name, other in others:
        if not np.array_equal(until, other):
            raise ValueError(
                f"{first!r} and {name!r} predict until other hours, which cannot be compared: fine-tune both "
                f"with task.interval_ends={[float(f'{end:g}') for end in until]}"
            )
    return Contents(next(iter(tasks.values()))[0], kind, models, until)


def _table(path: Path, task: str | None) -> tuple[Path, pl.DataFrame]:
    path = path / "predictions.parquet" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(
            f"no predictions at {path}: give a file that the finetune app wrote, or its folder"
        )
    try:
        table = pl.read_csv(path) if path.suffix == ".csv" else pl.read_parquet(path)
        if lacking := [name for name in NEEDED if name not in table.columns]:
            raise ValueError(f"{path} has no column {', '.join(lacking)}, only {', '.join(table.columns)}")
        defaults = {
            "patient_id": pl.col("stay_id"),
            "prediction_time": pl.lit(None),
            "step": pl.lit(0),
            "output": pl.lit(0),
            "split": pl.lit("test"),
            "task": pl.lit("unnamed"),
            "task_type": pl.lit(None),
            "model": pl.lit(path.stem),
            **dict.fromkeys(SURVIVAL, pl.lit(None)),
        }
        absent = {name: default for name, default in defaults.items() if name not in table.columns}
        quantiles = {name: pl.Float64 for name in table.columns if QUANTILE.fullmatch(name)}
        types = (TYPES | quantiles).items()
        table = table.with_columns(**absent).select(pl.col(name).cast(kind) for name, kind in types)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{path} cannot be read as predictions: {error}") from error
    if task is not None:
        if task not in (there := table["task"].unique().sort().to_list()):
            raise ValueError(f"{path}: {unknown('task', task, there)}")
        table = table.filter(pl.col("task") == task)
    has_label = pl.col("label").fill_nan(None).is_not_null() | pl.col("label_time").is_not_null()
    labelled = table.filter(has_label.any().over("model", "split", *KEY))
    step = pl.when(pl.col("prediction_time").is_null()).then("step").otherwise(0)
    return path, labelled.with_columns(pl.col("prediction_time").fill_null(NO_TIME), step=step)


def _by_model(read: list[tuple[str | None, tuple[Path, pl.DataFrame]]]) -> dict[str, pl.DataFrame]:
    """Each model under a name of its own."""
    found: list[tuple[str, str, pl.DataFrame]] = []
    for name, (path, table) in read:
        for (model,), part in table.group_by("model", maintain_order=True):
            found.append((name or str(model), path.parent.name, part))
    names = [name for name, _, _ in found]
    tables = {name if names.count(name) == 1 else f"{name} ({folder})": part for name, folder, part in found}
    if len(tables) < len(found):
        raise ValueError(
            f"models share a name: {sorted(names)}; name them, as in predictions={{a: ..., b: ...}}"
        )
    return tables


def _task_type(tables: Mapping[str, pl.DataFrame], given: TaskType | None) -> TaskType:
    stated = [kind for table in tables.values() for kind in table["task_type"].unique().drop_nulls()]
    kinds = {judged_as(kind) for kind in (*stated, *([given] if given else []))}
    if len(kinds) != 1:
        said = ", ".join(sorted(kinds)) or "none"
        raise ValueError(f"the files state task types {said}: give one that is right, as in task_type=binary")
    (kind,) = kinds
    if kind not in ("binary", "multiclass", "multilabel", "regression", "survival"):
        raise ValueError(f"predictions of task_type {kind!r} cannot be judged yet")
    return cast(TaskType, kind)


def judged_as(kind: str) -> str:
    """Ordered classes are judged by their probabilities, as others are."""
    return "multiclass" if kind == "ordinal" else kind


def _rows(where: str, table: pl.DataFrame, kind: TaskType) -> Rows:
    table = table.sort(*KEY, "output")
    about = table.select(*KEY, "patient_id").unique(KEY, maintain_order=True)
    width = table["output"].n_unique()
    if not np.array_equal(table["output"].to_numpy(), np.tile(np.arange(width), len(about))):
        raise ValueError(
            f"{where}: each stay, prediction_time and step needs one row for each output, 0 to {width - 1}"
        )
    prediction, label = (
        table[name].to_numpy().reshape(len(about), width) for name in ("prediction", "label")
    )
    _check(where, prediction, label, kind)
    if kind == "survival":
        return _survival(where, about, table, prediction)
    if kind == "multiclass":
        return Rows(about, label.argmax(1), prediction)
    if kind == "binary":
        return Rows(about, label[:, -1], prediction[:, -1])
    quantiles = {
        float(found[1]): table[name].to_numpy().reshape(label.shape)
        for name in table.columns
        if (found := QUANTILE.fullmatch(name)) and table[name].is_not_null().all()
    }
    if width > 1:
        return Rows(about, label, prediction, quantiles)
    of_one = {level: values[:, 0] for level, values in quantiles.items()}
    return Rows(about, label[:, 0], prediction[:, 0], of_one)


def _survival(where: str, about: pl.DataFrame, table: pl.DataFrame, prediction: Array) -> Rows:
    """Incidences until the same hours for each event and row. Raises ``ValueError`` where they are not."""
    if table.select(pl.any_horizontal(pl.col(SURVIVAL).is_null().any())).item():
        raise ValueError(f"{where}: a survival task needs {', '.join(SURVIVAL)} in every row")
    numbers: Array = table.select(SURVIVAL).to_numpy().reshape(*prediction.shape, len(SURVIVAL))
    event, until, hours, happened = np.moveaxis(numbers, -1, 0)
    n_events = int(event.max())
    ends = until[0, : len(until[0]) // n_events]
    events = np.repeat(np.arange(1, n_events + 1), len(ends))
    alike = len(events) == event.shape[1] and bool(
        (event == events).all() and (until == np.tile(ends, n_events)).all()
    )
    if not alike or len(ends) < 2 or (np.diff(ends) <= 0).any():
        raise ValueError(
            f"{where}: the outputs of each row must be events 1, 2 ..., and for each the same two or more "
            "hours `until`, ascending"
        )
    label = np.stack([hours[:, 0], happened[:, 0]], axis=1)
    if not np.isin(label[:, 1], range(n_events + 1)).all() or (label[:, 0] < 0).any():
        raise ValueError(f"{where}: label_event is 0 to {n_events}, and label_time is not negative")
    return Rows(about, label, prediction.reshape(len(about), n_events, -1), until=ends)


def _check(where: str, prediction: Array, label: Array, kind: TaskType) -> None:
    if not np.isfinite(prediction).all():
        raise ValueError(f"{where}: {int((~np.isfinite(prediction)).sum())} predictions are no numbers")
    if kind == "regression":
        return
    known = label[np.isfinite(label)]
    if not np.isin(known, (0, 1)).all():
        raise ValueError(
            f"{where}: labels of a {kind} task are 0 or 1, got {known[~np.isin(known, (0, 1))][0]:g}"
        )
    if prediction.min(initial=0) < -1e-6 or prediction.max(initial=1) > 1 + 1e-6:
        raise ValueError(
            f"{where}: predictions from {prediction.min():g} to {prediction.max():g} are no probabilities"
        )
    if kind == "binary" and not np.isfinite(label).all():
        raise ValueError(f"{where}: a row has a label for one of its outputs only")
    if kind == "binary" and prediction.shape[1] > 2:
        raise ValueError(f"{where}: a binary task has 1 or 2 outputs, got {prediction.shape[1]}")
    if kind == "multiclass" and not (label.sum(1) == 1).all():
        raise ValueError(f"{where}: in a multiclass task one output's label is 1 and the others' 0")
