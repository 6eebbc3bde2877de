"""A fine-tuned model at work: what it predicts of some stays over time, and which values that is owed to."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from slices.encoders import integrated_gradients
from slices.ssl.encoding import INPUTS
from slices.training.batch import keywords
from slices.training.data.datamodule import StayDataModule
from slices.training.data.views import Index
from slices.training.evaluation.bootstrap import Array
from slices.training.looking.drawing import heat_maps, over_time
from slices.training.looking.grid import bin_edges, gridded, most_measured
from slices.training.report.figure import Drawn
from slices.training.report.page import Section
from slices.training.report.style import named
from slices.training.serving.embedding import Embedder
from slices.training.serving.model import WITH_TEMPERATURE, TrainedModel
from slices.training.serving.stays import Inputs, NewStays

AT_ONCE = 256
N_HOURS = 24  # at which a model is asked that predicts once a stay
OWED = "What the last prediction is owed to"
ABOUT = (
    "How far each measured value moves the logit of the last prediction from that of average values: "
    "integrated gradients (Sundararajan et al., 2017). They tell what the model looked at, not what is the "
    "cause. Most: "
)


def sections_of(model: TrainedModel, data: StayDataModule, rows: Index) -> list[Section]:
    """A section a stay: what is predicted over time, and the attributions of the last prediction."""
    stays = NewStays(data.store, Inputs(model.info.columns, model.info.view))
    chosen = zip(data.stay_ids(rows), data.samples.stay[rows], strict=True)
    return [
        Section(f"Stay {stay_id}", figures=_of_stay(model, stays, int(stay), number))
        for number, (stay_id, stay) in enumerate(chosen)
    ]


@torch.no_grad()
def embeddings_of(
    model: TrainedModel, data: StayDataModule, rows: Index
) -> tuple[Array, dict[str, pl.Series]]:
    """Embeddings ``(N, H)`` of stays seen to their end, what was measured of each, and what is predicted."""
    inputs = Inputs(model.info.columns, model.info.view)
    embedder, stays = Embedder(model.encoder, model.normalizer, inputs), NewStays(data.store, inputs)
    stays.ask_at_the_end()
    parts = []
    for some in np.array_split(data.samples.stay[rows], -(-len(rows) // AT_ONCE)):
        batch = stays.cut(some)
        n_real = batch["padding_mask"].sum(1)
        predicted = at_the_end(model.predict(batch)["probs"], n_real)[:, -1]
        parts.append((at_the_end(embedder.embed(batch), n_real), batch["mask"].sum((1, 2)), predicted))
    embedding, n_measured, risks = (torch.cat(part).double().numpy() for part in zip(*parts, strict=True))
    return embedding, {
        "predicted": pl.Series(f"predicted: {named(model.task.task_name)}", risks),
        "measured": pl.Series("values measured", n_measured),
    }


def at_the_end(values: Tensor, n_real: Tensor) -> Tensor:
    """``(B, C)`` of values ``(B, C)``, or of the last real step of ``(B, T, C)``."""
    return values if values.ndim == 2 else values[torch.arange(len(values)), n_real - 1]


def _of_stay(model: TrainedModel, stays: NewStays, stay: int, number: int) -> tuple[Drawn, Drawn]:
    last = min(float(stays.store.length_hours[stay]), model.info.view.horizon)
    n_hours = 1 if model.info.task.per_step else N_HOURS
    hours = np.linspace(0, last, n_hours + 1, dtype=np.float32)[1:]
    stays.ask(np.full(n_hours, stay), hours)
    batch = stays.cut(np.arange(n_hours))
    probs = model.predict(batch)["probs"].numpy()
    if model.info.task.per_step:
        real = batch["padding_mask"][0].numpy()
        hours, probs = batch["times"][0].numpy()[real], probs[0][real]
    at_the_end = {name: field[-1:] for name, field in batch.items()}
    return _risk(model, hours, probs, number), _attributions(model, at_the_end, number)


def _risk(model: TrainedModel, hours: Array, probs: Array, number: int) -> Drawn:
    task, line = model.task, None
    names = model.info.task.classes or tuple(map(str, range(probs.shape[-1])))
    curves = {name: probs[:, i] for i, name in enumerate(names)}
    if task.task_type == "binary":
        curves, line = {task.task_name: probs[:, -1]}, (*model.thresholds, None)[0]
    unit = "probability" if task.task_type in WITH_TEMPERATURE else "prediction"
    title, caption = "Prediction over time", "At each hour from what had been measured by then."
    ends = "; ".join(f"{name} from {curve[0]:.3g} to {curve[-1]:.3g}" for name, curve in curves.items())
    alt = f"{title}, {hours[0]:.3g} to {hours[-1]:.3g} hours: {ends}."
    return Drawn(f"risk_{number}", title, caption, alt, over_time(hours, curves, unit, line))


def _attributions(model: TrainedModel, batch: dict[str, Tensor], number: int) -> Drawn:
    given: dict[str, Any] = keywords(batch, frozenset(INPUTS))
    n_real = int(batch["padding_mask"].sum())

    def score(embedding: Tensor) -> Tensor:
        pools = (given["padding_mask"],) if model.head.pools_steps else ()
        logits: Tensor = model.head(embedding, *pools)["logits"]
        return (logits[:, n_real - 1] if logits.ndim == 3 else logits)[:, -1]

    x = model.normalizer(batch["timeseries"], batch["mask"])
    found = integrated_gradients(score, model.encoder, x, **given)[0].detach().numpy()
    mask, times = batch["mask"][0].numpy(), batch["times"][0].numpy()
    rows, edges = most_measured(mask), bin_edges(times[mask.any(-1)])
    owed = gridded(found[:, rows], mask[:, rows], times, edges)
    names = [model.info.columns[row].name for row in rows]
    caption = ABOUT + ", ".join(names[i] for i in np.argsort(-np.nansum(np.abs(owed.values), 1))[:3]) + "."
    figure = heat_maps({"attribution": owed}, names, "change of the logit")
    return Drawn(f"attribution_{number}", OWED, caption, caption, figure)
