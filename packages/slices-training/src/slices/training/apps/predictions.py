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
) -> Path:
    """Parquet with ``stay_id, patient_id, prediction_time, step, output, prediction, label``, and more.

    ``output`` counts the classes, labels or targets. ``prediction_time`` is in hours since admission;
    where a stay is predicted step by step, ``step`` counts, and it is the end of the step, ``step_hours``
    after its beginning. It is null where it is not known. A label that is not known is null.
    For binary and multiclass tasks ``label`` is 1 in the row of the true class. ``split`` is one of the keys
    of ``batches_of`` (val, test); ``task``, ``task_type`` and ``model`` are the same in all rows.
    Quantiles are in columns named by their level, as ``q0.1``.
    """
    tables = [
        _rows(batch, step_hours).with_columns(**_quantiles(batch, task), split=pl.lit(split))
        for split, batches in batches_of.items()
        for batch in batches
    ]
    about = {"task": task.task_name, "task_type": task.task_type, "model": model}
    about_all = {name: pl.lit(value) for name, value in about.items()}
    pl.concat(tables).with_columns(**about_all).write_parquet(path)
    return path


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
    return pl.DataFrame(
        {
            "stay_id": batch["stay_id"].numpy()[stay],
            "patient_id": batch["patient_id"].numpy()[stay],
            "prediction_time": np.broadcast_to(_hours(batch, step_hours), truth.shape[:2])[stay, step],
            "step": step,
            "output": output,
            "prediction": probs.numpy().ravel(),
            "label": truth.numpy().ravel(),
        }
    ).with_columns(pl.col("label", "prediction_time").fill_nan(None))


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


def show_predictions(path: Path, task: TaskInfo | None, rows: int = 5) -> str:
    """The highest test predictions of the last class, for people."""
    table = pl.read_parquet(path).filter(pl.col("split") == "test")
    last = table.filter(pl.col("output") == pl.col("output").max(), pl.col("label").is_not_null())
    top = last.sort("prediction", descending=True).head(rows)
    name = task.name if task else str(top["task"][0])
    lines = [
        f"  stay {s:>8}  predicted {p:.3f}  truth {t:g}"
        for s, p, t in top.select("stay_id", "prediction", "label").rows()
    ]
    return "\n".join([f"{name}, the {len(lines)} highest of {last.height:,} test predictions:", *lines])
