"""What a run logged, as curves over epochs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import polars as pl

MEAN = re.compile(r"(train|val)/(?!loss_step)")


class Curve(NamedTuple):
    """Values ``y`` after so many epochs ``x``, ascending."""

    x: list[float]
    y: list[float]


def read_logs(folder: Path) -> dict[str, Curve]:
    """Each metric that was logged, by name.

    A resumed run has several files; where they overlap the later one counts. What is logged between epochs,
    as the learning rate is, comes at parts of an epoch.

    Raises:
        FileNotFoundError: the run logged nothing.
    """
    files = sorted(folder.glob("logs*/metrics.csv"), key=lambda path: int(path.parent.name[5:] or 0))
    if not files:
        raise FileNotFoundError(f"no logs/metrics.csv in {folder}")
    frames = [pl.read_csv(path, infer_schema_length=None) for path in files]
    table = pl.concat(frames, how="diagonal_relaxed")
    table = table.with_columns(epochs=_after_epochs(table))
    names = [name for name in table.columns if name not in ("step", "epoch", "epochs", "train/loss_step")]
    curves = {name: _curve(table, name) for name in sorted(names)}
    return {name: curve for name, curve in curves.items() if curve.x}


def _after_epochs(table: pl.DataFrame) -> pl.Expr:
    """How many epochs were done at each row; an epoch's means are logged at its last step, counted from 0."""
    means = [name for name in table.columns if MEAN.match(name)]
    is_mean = pl.any_horizontal(pl.col(means).is_not_null())
    ends = table.filter(is_mean)
    per_epoch = ((ends["step"] + 1) / (ends["epoch"] + 1)).median() or 1
    return (pl.col("step") + is_mean.cast(pl.Int64)) / per_epoch


def _curve(table: pl.DataFrame, name: str) -> Curve:
    rows = table.select("epochs", name).cast(pl.Float64).drop_nulls().fill_nan(None)
    of_each = rows.unique("epochs", keep="last", maintain_order=True).sort("epochs")
    return Curve(of_each["epochs"].to_list(), of_each[name].to_list())
