"""Predictions of new stays as rows, in the columns that ``slices-evaluate`` reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import polars as pl
from torch import Tensor

from slices.encoders.registry import make_config
from slices.training.data.samples import labelled
from slices.training.data.splits import SplitConfig, split_stays
from slices.training.data.store import StayStore
from slices.training.data.views import Array, Index
from slices.training.errors import UserError
from slices.training.serving.ensemble import Ensemble
from slices.training.serving.labels import Labels, labelled_task
from slices.training.serving.stays import Inputs, NewStays

At = tuple[float, ...] | Literal["labels"] | None
VALUES = {"probs": "prediction", "predicted": "predicted", "lower": "lower", "upper": "upper"}
NEW = "test"  # the split of stays that the model cannot have been trained on; the one that is judged


class Predictor:
    """What an ensemble predicts of the stays of a dataset.

    Args:
        ensemble: one model or several.
        store: the dataset.
        at: hours since admission at which the input ends; "labels": those of the dataset's labels; None: that
            of the training labels, or where they had several, the end of each stay (at most the horizon).
        adapt: see ``NewStays``.

    Raises:
        UserError: hours that the model cannot be asked at, or data that does not fit it.
    """

    def __init__(self, ensemble: Ensemble, store: StayStore, *, at: At = None, adapt: bool = False) -> None:
        self.ensemble, self.model, self.store = ensemble, ensemble.first, store
        info = self.model.info
        self.labels = Labels(store, self.model)
        self.stays = NewStays(store, Inputs(info.columns, info.view), adapt=adapt)
        self._ask(at)
        self.split = _splits(store, info.data)

    def _ask(self, at: At) -> None:
        task, horizon = self.model.info.task, self.model.info.view.horizon
        if task.per_step:
            if at is not None:
                raise UserError(f"at={at}: this model predicts at the end of every step: leave `at` out")
        elif at == "labels":
            labels = labelled_task(self.store, self.model)
            of = labelled(self.store, labels, self.stays.view, self.stays.window, per_step=False)
            self.stays.ask(of.stay, of.until)
        elif at is not None:
            if late := [hour for hour in at if not 0 <= hour <= horizon]:
                raise UserError(f"at={late[0]:g}: allowed are hours from 0 to the horizon, {horizon:g}")
            self.stays.ask_at(at)
        elif task.predict_at is not None:
            self.stays.ask_at((task.predict_at,))
        else:
            self.stays.ask_at_the_end()

    @property
    def schema(self) -> pl.Schema:
        """The columns of the rows."""
        columns: dict[str, Any] = {"stay_id": pl.Int64, "patient_id": pl.Int64, "prediction_time": pl.Float32}
        columns |= {"step": pl.Int64, "output": pl.Int64, "class": pl.String}
        columns |= {"prediction": pl.Float32, "predicted": pl.Float32}
        if len(self.ensemble.members) > 1:
            columns |= {"lower": pl.Float32, "upper": pl.Float32}
        columns |= {name: pl.Float32 for name in self._quantiles}
        if self._ends:
            columns |= {"event": pl.Int64, "until": pl.Float64}
            columns |= {"label_time": pl.Float64, "label_event": pl.Float64}
        columns |= {"label": pl.Float32}
        return pl.Schema(columns | {name: pl.String for name in ("split", "task", "task_type", "model")})

    @property
    def _quantiles(self) -> list[str]:
        head = self.model.task
        return [f"q{level:g}" for level in head.quantiles] if head.loss == "quantile" else []

    @property
    def _ends(self) -> tuple[float, ...]:
        return self.model.info.task.interval_ends

    def tables(self, batch_size: int) -> Iterator[pl.DataFrame]:
        """A row for each stay (or window), prediction time and output, a table a batch.

        ``prediction`` is the calibrated probability, or the value; ``predicted`` is 1 where the class or
        label is decided for, null without a threshold; ``label`` is null where it is not known. ``split`` is
        that of the model's own training ("unused": none of them) where the dataset is the one it was trained
        on, else "test". In survival the outputs are each event's by the end of each interval, in the columns
        that ``write_predictions`` describes.
        """
        about = {"task": self.model.task.task_name, "task_type": self.model.task.task_type}
        constant = {name: pl.lit(value) for name, value in (about | {"model": self.ensemble.name}).items()}
        for rows, batch in self.stays.batches(batch_size):
            table = self._rows(rows, batch, self.ensemble.predict(batch))
            yield self.labels.beside(table).with_columns(**constant).select(self.schema.keys())

    def _rows(self, rows: Index, batch: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> pl.DataFrame:
        samples = self.stays.samples.take(rows)
        values = {name: self._by_output(outputs[name]) for name in VALUES if name in outputs}
        shape = values["probs"].shape
        stay, step, output = (grid.ravel() for grid in np.indices(shape))
        columns = {VALUES[name]: of_rows.ravel() for name, of_rows in values.items()}
        if self._quantiles:
            levels = outputs["logits"].numpy().reshape(-1, len(self._quantiles))
            columns |= dict(zip(self._quantiles, levels.T, strict=True))
        when, real = self._when(samples.until, samples.start, batch)
        names = np.asarray(self._names(shape[2]), dtype=object)
        table = pl.DataFrame(
            {
                "stay_id": batch["stay_id"].numpy()[stay],
                "patient_id": batch["patient_id"].numpy()[stay],
                "prediction_time": when[stay, step],
                "step": step,
                "output": output,
                "class": pl.Series(names[output].tolist(), dtype=pl.String),
                "split": self.split[samples.stay[stay]],
            }
        )
        table = table.with_columns(**{name: pl.Series(of_rows) for name, of_rows in columns.items()})
        if "predicted" not in table.columns:
            table = table.with_columns(predicted=pl.lit(None, pl.Float32))
        if self._ends:
            event, interval = np.divmod(output, len(self._ends))
            until = pl.Series(np.asarray(self._ends)[interval])
            table = table.with_columns(event=pl.Series(event + 1), until=until)
        return table.with_columns(pl.col("predicted").fill_nan(None)).filter(pl.Series(real[stay, step]))

    def _by_output(self, values: Tensor) -> Array:
        """(B, T, C), T 1 of one prediction a stay; of survival (..., K, R) C is R times K, events first."""
        if self._ends:
            values = values.transpose(-1, -2).flatten(-2)
        return np.asarray(values.reshape(len(values), -1, values.shape[-1]))

    def _names(self, width: int) -> list[str | None]:
        """Of each output, where they have names."""
        classes = [str(name) for name in self.model.info.task.classes for _ in self._ends or [None]]
        return list(classes) if len(classes) == width else [None] * width

    def _when(
        self, until: Array, start: Array, batch: Mapping[str, Tensor]
    ) -> tuple[Array, np.ndarray[Any, np.dtype[np.bool_]]]:
        """Hours of each prediction, and whether it is one: a real step, that no window before has told."""
        if not self.model.info.task.per_step:
            return until[:, None], np.ones((len(until), 1), dtype=bool)
        width, window = self.stays.view.bin_width, self.stays.window
        assert width is not None  # steps have no fixed end otherwise, and training refuses it
        end = batch["times"].numpy() + np.float32(width)
        real = batch["padding_mask"].numpy()
        if window is not None:
            told = np.where(start > 0, start + window.length - window.step, -np.inf)
            real = real & (end > told[:, None] + 1e-3)
        return end, real


def _splits(store: StayStore, data: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.object_]]:
    """Of each stay of the dataset."""
    names = np.full(len(store), NEW, dtype=object)
    if store.manifest.fingerprint != data.get("dataset"):
        return names
    config = make_config(SplitConfig, data["splits"], "splits")
    names[:] = "unused"
    for name, stays in split_stays(store.patient_id, store.stays["set"].to_list(), config).items():
        names[stays] = name
    return names
