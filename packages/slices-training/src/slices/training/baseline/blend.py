"""One prediction of several models': a mean on the scale of log-odds, weighted by validation rows.

Letters: M models, N rows, C classes, labels or targets.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from slices.heads import TaskType
from slices.training.baseline.config import BlendConfig
from slices.training.errors import UserError
from slices.training.evaluation.report.files import KEY, NO_TIME, Contents, Rows, read_predictions

log = logging.getLogger(__name__)
LEAST = 1e-6  # how near to 0 and 1 a probability is taken to be


class Blend(NamedTuple):
    """Weights by model, and the table of what the blend predicts, in the form of the models' files."""

    weights: dict[str, float]
    table: pl.DataFrame


def blend(config: BlendConfig) -> Blend:
    """Reads the models' predictions, weighs and averages them.

    Raises:
        UserError: fewer than two models, a survival task, or no common rows to choose weights by.
        ValueError, FileNotFoundError: files that cannot be, as ``read_predictions`` says.
    """
    contents = read_predictions(config.predictions, config.task_type, config.task_name)
    if len(contents.models) < 2:
        raise UserError(f"a blend is of two models or more, not of {', '.join(contents.models)} alone")
    if contents.task_type == "survival":
        raise UserError("predictions of survival tasks cannot be blended yet")
    weights = torch.full((len(contents.models),), 1 / len(contents.models), dtype=torch.float64)
    if config.weights == "validation":
        if lacking := [name for name, splits in contents.models.items() if "val" not in splits]:
            raise UserError(
                f"{', '.join(lacking)}: no rows of split 'val' to choose weights by: use weights=equal"
            )
        rows = _common(contents, "val")
        predicted = log_odds([part.prediction for part in rows], contents.task_type)
        weights = blend_weights(predicted, _labels(rows[0]), contents.task_type)
    splits = [split for split in ("val", "test") if all(split in own for own in contents.models.values())]
    tables = [_table(contents, split, weights, config.name) for split in splits]
    return Blend(dict(zip(contents.models, weights.tolist(), strict=True)), pl.concat(tables))


def blend_weights(
    logits: Float[Tensor, "M N C"], label: Float[Tensor, "N C"], task_type: TaskType
) -> Float[Tensor, "M"]:
    """Weights that are not negative and sum to 1, of the least loss on these rows.

    Log loss, at the temperature at which the blend has the least (or a model that knows nothing would be
    given weight, for making sure ones less sure); of a regression the squared error, each target in units of
    its variance. L-BFGS in softmax coordinates, from equal weights and temperature 1.

    Args:
        logits: of each model: log-odds (binary, multilabel; C is 1 or the labels), log-probabilities
            (multiclass), or values.
        label: 0 or 1, one-hot, or values; NaN where a label is missing.
        task_type: decides the loss.

    >>> label = torch.tensor([[1.0], [1.0], [0.0], [0.0]])
    >>> good = torch.tensor([[2.0], [-1.0], [1.0], [-2.0]]).double()
    >>> wrong = torch.tensor([[-2.0], [-1.0], [2.0], [0.5]]).double()
    >>> blend_weights(torch.stack([good, wrong]), label, "binary").round(decimals=3)
    tensor([1., 0.], dtype=torch.float64)
    """
    free = torch.zeros(len(logits), dtype=torch.float64, requires_grad=True)
    log_scale = torch.zeros((), dtype=torch.float64, requires_grad=task_type != "regression")
    parameters = [free] if task_type == "regression" else [free, log_scale]
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=500, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        mean = torch.einsum("m,mnc->nc", free.softmax(0), logits)
        loss = _loss(log_scale.exp() * mean, label, task_type)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return free.detach().softmax(0)


def blended(
    logits: Float[Tensor, "M N C"], weights: Float[Tensor, "M"], task_type: TaskType
) -> Float[Tensor, "N C"]:
    """The weighted mean, as probabilities or values."""
    mean = torch.einsum("m,mnc->nc", weights, logits)
    if task_type == "regression":
        return mean
    return mean.softmax(-1) if task_type == "multiclass" else mean.sigmoid()


def mean_prediction(predictions: Sequence[NDArray[Any]], task_type: TaskType) -> Float[Tensor, "N C"]:
    """The mean of predictions, each ``(N,)`` or ``(N, C)``, on the scale of log-odds.

    >>> mean_prediction([np.array([0.5, 0.8]), np.array([0.5, 0.2])], "binary").flatten()
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    logits = log_odds(predictions, task_type)
    return blended(logits, torch.full((len(logits),), 1 / len(logits), dtype=torch.float64), task_type)


def _loss(mean: Tensor, label: Tensor, task_type: TaskType) -> Tensor:
    known = label.isfinite()
    target = label.nan_to_num(0.0).double()
    if task_type == "multiclass":
        return -(target * mean.log_softmax(-1)).sum(-1).mean()
    if task_type == "regression":
        centre = target.sum(0) / known.sum(0)
        variance = ((target - centre).square() * known).sum(0) / known.sum(0)
        losses = (mean - target).square() / variance.clamp(min=1e-12)
    else:
        losses = torch.nn.functional.binary_cross_entropy_with_logits(mean, target, reduction="none")
    return (losses * known).sum() / known.sum()


def _common(contents: Contents, split: str) -> list[Rows]:
    """The rows of a split that all models predicted, in one order."""
    of_each = {name: splits[split] for name, splits in contents.models.items()}
    keys = [rows.about.select(KEY) for rows in of_each.values()]
    shared = reduce(lambda left, right: left.join(right, on=KEY, how="semi"), keys)
    if not len(shared):
        raise UserError(
            f"no row of split {split!r} that all models predicted: blend models of the same stays"
        )
    chosen = [_chosen(rows, shared) for rows in of_each.values()]
    for name, rows in zip(of_each, chosen, strict=True):
        _check_agreement(next(iter(of_each)), chosen[0], name, rows)
        if left_out := len(of_each[name].about) - len(shared):
            log.warning("%s: %d %s rows that not all models have are left out", name, left_out, split)
    return chosen


def _check_agreement(first: str, one: Rows, name: str, other: Rows) -> None:
    if not one.about["patient_id"].equals(other.about["patient_id"]):
        raise UserError(
            f"{first!r} and {name!r} name different patients for the same stays: does one lack patient_id?"
        )
    if not np.array_equal(one.label, other.label, equal_nan=True):
        raise UserError(f"{first!r} and {name!r} have different labels in the same rows")


def _chosen(rows: Rows, shared: pl.DataFrame) -> Rows:
    at = rows.about.with_row_index("at").join(shared, on=KEY, how="semi").sort(KEY)["at"].to_numpy()
    return Rows(rows.about[at], rows.label[at], rows.prediction[at])


def log_odds(predictions: Sequence[NDArray[Any]], task_type: TaskType) -> Float[Tensor, "M N C"]:
    """Log-odds of probabilities (of classes their logarithm), values as they are: what ``blended`` takes.

    Args:
        predictions: of each model ``(N,)`` or ``(N, C)``.
        task_type: decides the scale.
    """
    found = torch.stack([torch.from_numpy(np.asarray(part, dtype=np.float64)) for part in predictions])
    found = found if found.ndim == 3 else found.unsqueeze(-1)
    if task_type == "regression":
        return found
    sure = found.clamp(LEAST, 1 - LEAST)
    return sure.log() if task_type == "multiclass" else sure.logit()


def _labels(rows: Rows) -> Float[Tensor, "N C"]:
    label = torch.from_numpy(np.asarray(rows.label, dtype=np.float64))
    if rows.prediction.ndim == 2 and label.ndim == 1:  # multiclass
        return torch.nn.functional.one_hot(label.long(), rows.prediction.shape[1]).double()
    return label if label.ndim == 2 else label.unsqueeze(-1)


def _table(contents: Contents, split: str, weights: Tensor, name: str) -> pl.DataFrame:
    rows = _common(contents, split)
    predicted = log_odds([part.prediction for part in rows], contents.task_type)
    values, labels = blended(predicted, weights, contents.task_type), _labels(rows[0])
    if contents.task_type == "binary":  # a row for each of the two classes, as our files have it
        values, labels = (torch.cat([1 - part, part], dim=1) for part in (values, labels))
    n, width = values.shape
    about = rows[0].about.select(*KEY, "patient_id")[np.repeat(np.arange(n), width)]
    time = pl.col("prediction_time")
    return about.with_columns(
        pl.when(time != NO_TIME).then(time).alias("prediction_time"),
        output=pl.Series(np.tile(np.arange(width), n)),
        prediction=pl.Series(values.numpy().ravel()),
        label=pl.Series(labels.numpy().ravel()).fill_nan(None),
        split=pl.lit(split),
        task=pl.lit(contents.task),
        task_type=pl.lit(contents.task_type),
        model=pl.lit(name),
    )
