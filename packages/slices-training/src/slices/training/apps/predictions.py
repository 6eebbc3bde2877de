"""Predictions as a table: one row a stay, or a stay and step, and class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from slices.heads import TaskHeadConfig
from slices.training.data.schema import TaskInfo
from slices.training.data.views import Index
from slices.training.intervals import struck_by


def of_all_ranks(batches: Sequence[Any] | None) -> list[Any]:
    """The batches of every rank, on every rank."""
    mine = list(batches or [])
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return mine
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, mine)
    return [batch for part in gathered for batch in part]


def write_predictions(
    path: Path,
    batches_of: Mapping[str, Sequence[Any]],
    task: TaskHeadConfig,
    model: str,
    step_hours: float | None = None,
    others: Sequence[TaskHeadConfig] = (),
) -> Path:
    """Parquet with ``stay_id, patient_id, prediction_time, step, output, prediction, label``, and more.

    ``output`` counts the classes, labels or targets. ``prediction_time`` is in hours since admission;
    where a stay is predicted step by step, ``step`` counts, and it is the end of the step, ``step_hours``
    after its beginning. It is null where it is not known. A label that is not known is null.
    For binary and multiclass tasks ``label`` is 1 in the row of the true class. ``split`` is one of the keys
    of ``batches_of`` (val, test); ``model`` is the same in all rows, and so are ``task`` and ``task_type``
    but for ``others``, further tasks of the same batches, whose rows come after.
    Quantiles are in columns named by their level, as ``q0.1``.

    In survival there is a row for each event and interval: the ``prediction`` that ``event`` (1, 2 ...) has
    come ``until`` so many hours after the prediction time, and whether it had (``label``, null where that is
    not known). ``label_time`` and ``label_event`` are hours, and what happened then (0: censored).
    """
    tables = [_table(batches_of, task, step_hours)]
    for other in others:
        own = {split: [_of_other(b, other.task_name) for b in found] for split, found in batches_of.items()}
        tables.append(_table(own, other, step_hours))
    pl.concat(tables, how="diagonal").with_columns(model=pl.lit(model)).write_parquet(path)
    return path


def _table(
    batches_of: Mapping[str, Sequence[Any]], task: TaskHeadConfig, step_hours: float | None
) -> pl.DataFrame:
    """The predictions of one task."""
    rows = survival_rows if task.task_type == "survival" else _rows
    tables = [
        rows(batch, step_hours).with_columns(**_quantiles(batch, task), split=pl.lit(split))
        for split, batches in batches_of.items()
        for batch in batches
    ]
    return pl.concat(tables).with_columns(task=pl.lit(task.task_name), task_type=pl.lit(task.task_type))


def _of_other(batch: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """A batch of predictions as if a further task were the only one."""
    of_all = ("stay_id", "patient_id", "prediction_time", "times")
    kept = {key: batch[key] for key in of_all if key in batch}
    own = {key: value for key, value in batch.items() if key.endswith(f"/{name}")}
    return kept | {key.removesuffix(f"/{name}"): value for key, value in own.items()}


def _rows(batch: dict[str, torch.Tensor], step_hours: float | None) -> pl.DataFrame:
    probs, label = batch["probs"].float(), batch["label"]
    known = batch.get("label_mask", torch.ones_like(label, dtype=torch.bool))
    classes = probs.shape[-1]
    if label.shape == probs.shape:
        truth = label.float()
    elif classes == 1:
        truth = label.float().unsqueeze(-1)
    else:
        truth = torch.nn.functional.one_hot(label.nan_to_num(0).long().clamp(min=0), classes).float()
    known = known if known.shape == probs.shape else known.unsqueeze(-1)
    truth = truth.masked_fill(~known, float("nan")).reshape(len(label), -1, classes)
    probs = probs.reshape(truth.shape)
    stay, step, output = (grid.ravel() for grid in np.indices(tuple(truth.shape)))
    about = _about(batch, step_hours, stay, step, (truth.shape[0], truth.shape[1]))
    columns = {"output": output, "prediction": probs.numpy().ravel(), "label": truth.numpy().ravel()}
    return pl.DataFrame(about | columns).with_columns(pl.col("label", "prediction_time").fill_nan(None))


def _about(
    batch: dict[str, torch.Tensor], step_hours: float | None, stay: Index, step: Index, shape: tuple[int, int]
) -> dict[str, np.ndarray[Any, Any]]:
    """What the rows of these stays and steps, of a batch of ``shape`` (B, T), are of."""
    return {
        "stay_id": batch["stay_id"].numpy()[stay],
        "patient_id": batch["patient_id"].numpy()[stay],
        "prediction_time": np.broadcast_to(_hours(batch, step_hours), shape)[stay, step],
        "step": step,
    }


def survival_rows(batch: dict[str, torch.Tensor], step_hours: float | None) -> pl.DataFrame:
    """Of ``probs (B, K, R)``, or (B, T, K, R), labels ``(B, 2)``, or (B, T, 2), and ``until (K,)``."""
    until = batch["until"].numpy()
    probs = batch["probs"].float().transpose(-1, -2)
    probs = probs.reshape(len(probs), -1, *probs.shape[-2:])  # (B, T, R, K)
    label = batch["label"].float().masked_fill(~batch["label_mask"], torch.nan)
    hours, happened = label.reshape(*probs.shape[:2], 2).numpy().transpose(2, 0, 1)
    stay, step, event, interval = (grid.ravel() for grid in np.indices(tuple(probs.shape)))
    hours, happened = hours[stay, step], happened[stay, step]
    about = _about(batch, step_hours, stay, step, (probs.shape[0], probs.shape[1]))
    columns = {
        "output": event * len(until) + interval,
        "event": event + 1,
        "until": until[interval].astype(np.float64),
        "prediction": probs.numpy().ravel(),
        "label_time": hours.astype(np.float64),
        "label_event": happened.astype(np.float64),
    }
    nullable = ("prediction_time", "label_time", "label_event")
    table = pl.DataFrame(about | columns).with_columns(pl.col(nullable).fill_nan(None))
    return table.with_columns(struck_by())


def _quantiles(batch: dict[str, torch.Tensor], task: TaskHeadConfig) -> dict[str, pl.Series]:
    """(..., C, Q) as columns."""
    if "quantiles" not in batch:
        return {}
    columns = batch["quantiles"].float().flatten(0, -2).unbind(-1)
    return {
        f"q{level:g}": pl.Series(of_level.numpy())
        for level, of_level in zip(task.quantiles, columns, strict=True)
    }


def _hours(batch: dict[str, torch.Tensor], step_hours: float | None) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(B, 1), or (B, T) where there is a prediction a step; NaN where it is not known."""
    if step_hours is not None:
        return np.asarray(batch["times"].float() + step_hours)
    unknown = torch.full((len(batch["stay_id"]),), torch.nan)
    return np.asarray(batch.get("prediction_time", unknown), dtype=np.float32)[:, None]


def show_predictions(path: Path, task: TaskInfo | None, least: int = 10) -> str:
    """What the test predictions of the last class are like, of no fewer than ``least`` patients together."""
    table = pl.read_parquet(path).filter(pl.col("split") == "test")
    table = table.filter(pl.col("task") == pl.col("task").first())
    if "event" in table.columns:  # of survival, the first event
        table = table.filter(pl.col("event").is_null() | (pl.col("event") == 1))
    name = task.name if task else str(table["task"][0])
    last = table.filter(pl.col("output") == pl.col("output").max(), pl.col("label").is_not_null())
    patients = last.group_by("patient_id").agg(pl.col("prediction").max()).sort("prediction", descending=True)
    said = f"{name}, {last.height:,} test predictions of {patients.height:,} patients"
    if patients.height < least:
        return said
    chosen = max(least, patients.height // 10)
    top = last.join(patients.head(chosen), on="patient_id", how="semi")
    parts = {"all": last, f"the {chosen:,} patients with the highest": top}
    means = {part: rows.select("prediction", "label").mean().row(0) for part, rows in parts.items()}
    lines = [f"  {part}: mean prediction {p:.3f}, mean label {y:.3f}" for part, (p, y) in means.items()]
    return "\n".join([f"{said}:", *lines])
