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
from slices.training.looking.outputs import Outputs, in_one, outputs_of
from slices.training.report.figure import Drawn
from slices.training.report.page import Section
from slices.training.serving.embedding import Embedder
from slices.training.serving.model import TrainedModel
from slices.training.serving.stays import Inputs, NewStays

FOUND = ("predicted", "measured")  # beside embeddings
AT_ONCE = 256
N_HOURS = 24  # at which a model is asked that predicts once a stay
OWED = "What the last prediction is owed to"
ABOUT = (
    "How far each measured value moves the {} from that of average values: integrated gradients "
    "(Sundararajan et al., 2017). They tell what the model looked at, not what is the cause. Most: {}."
)


def sections_of(model: TrainedModel, data: StayDataModule, rows: Index) -> list[Section]:
    """A section a stay: what is predicted over time, and the attributions of the last prediction."""
    stays = NewStays(data.store, inputs_of(model))
    chosen = zip(data.stay_ids(rows), data.samples.stay[rows], strict=True)
    return [
        Section(f"Stay {stay_id}", figures=_of_stay(model, stays, int(stay), number))
        for number, (stay_id, stay) in enumerate(chosen)
    ]


def inputs_of(model: TrainedModel) -> Inputs:
    """What it wants to be fed."""
    return Inputs(model.info.columns, model.info.view)


@torch.no_grad()
def embeddings_of(
    model: TrainedModel, data: StayDataModule, rows: Index
) -> tuple[Array, dict[str, pl.Series]]:
    """Embeddings ``(N, H)`` of stays, what is predicted, and how many values were measured.

    Stays are seen until the hour that the model was trained to predict at, if there is one, or to their end.
    An embedding with steps is that of the last one where the model predicts at each, else their mean.
    """
    stays, task = NewStays(data.store, inputs_of(model)), model.info.task
    if task.predict_at is None:
        stays.ask_at_the_end()
    else:
        stays.ask_at((task.predict_at,))
    embedder, parts = Embedder(model.encoder, model.normalizer, stays.inputs), []
    for some in np.array_split(data.samples.stay[rows], -(-len(rows) // AT_ONCE)):
        batch = stays.cut(some)
        embedding, said, real = embedder.embed(batch), outputs_of(model, batch), batch["padding_mask"]
        if task.per_step:
            embedding, values = last_real(embedding, real), last_real(said.values, real)
        else:
            embedding, values = mean_of_real(embedding, real), said.values
        parts.append((embedding, batch["mask"].sum((1, 2)), values))
    joined, n_measured, values = (torch.cat(part) for part in zip(*parts, strict=True))
    return joined.double().numpy(), {
        "predicted": in_one(model, said._replace(values=values)),
        "measured": pl.Series("values measured", n_measured.numpy()),
    }


def last_real(values: Tensor, real: Tensor) -> Tensor:
    """``(B, C)`` of the last real step of ``(B, T, C)``; ``real`` is ``(B, T)``."""
    steps = torch.arange(real.shape[1]).expand_as(real)
    return values[torch.arange(len(values)), steps.masked_fill(~real, 0).amax(1)]


def mean_of_real(embedding: Tensor, real: Tensor) -> Tensor:
    """``(B, H)``: as it is, or the mean of the real steps of ``(B, T, H)``; ``real`` is ``(B, T)``."""
    if embedding.ndim == 2:
        return embedding
    weight = real.unsqueeze(-1).to(embedding.dtype)
    return (embedding * weight).sum(1) / weight.sum(1).clamp(min=1)


def _of_stay(model: TrainedModel, stays: NewStays, stay: int, number: int) -> tuple[Drawn, Drawn]:
    last = min(float(stays.store.length_hours[stay]), model.info.view.horizon)
    n_hours = 1 if model.info.task.per_step else N_HOURS
    hours = np.linspace(0, last, n_hours + 1, dtype=np.float32)[1:]
    stays.ask(np.full(n_hours, stay), hours)
    batch = stays.cut(np.arange(n_hours))
    said = outputs_of(model, batch)
    if model.info.task.per_step:
        real = batch["padding_mask"][0]
        hours, said = batch["times"][0][real].numpy(), said._replace(values=said.values[0][real])
    at_the_end = {name: field[-1:] for name, field in batch.items()}
    return _risk(model, hours, said, number), _attributions(model, at_the_end, said, number)


def _risk(model: TrainedModel, hours: Array, said: Outputs, number: int) -> Drawn:
    curves, line = {name: said.values[:, k].numpy() for k, name in enumerate(said.names)}, None
    if model.task.task_type == "binary":
        curves, line = {said.names[-1]: said.values[:, -1].numpy()}, (*model.thresholds, None)[0]
    title, caption = "Prediction over time", "At each hour from what had been measured by then."
    ends = "; ".join(f"{name} from {curve[0]:.3g} to {curve[-1]:.3g}" for name, curve in curves.items())
    alt = f"{title}, {hours[0]:.3g} to {hours[-1]:.3g} hours: {ends}."
    return Drawn(f"risk_{number}", title, caption, alt, over_time(hours, curves, said.unit, line))


def _attributions(model: TrainedModel, batch: dict[str, Tensor], said: Outputs, number: int) -> Drawn:
    given: dict[str, Any] = keywords(batch, frozenset(INPUTS))
    last, of_survival = said.values[-1], model.task.task_type == "survival"
    output = 0 if of_survival else -1
    if model.task.task_type in ("multiclass", "multilabel"):
        output = int(last.argmax())
    kind = "incidence" if of_survival else "logit" if len(said.names) > 1 else "prediction"

    def score(embedding: Tensor) -> Tensor:
        pools = (given["padding_mask"],) if model.head.pools_steps else ()
        outputs = model.head(embedding, *pools)
        values: Tensor = outputs["probs"][..., -1, :] if of_survival else outputs["logits"]
        values = last_real(values, given["padding_mask"]) if model.info.task.per_step else values
        return values[:, output]

    x = model.normalizer(batch["timeseries"], batch["mask"])
    found = integrated_gradients(score, model.encoder, x, **given)[0].detach().numpy()
    mask, times = batch["mask"][0].numpy(), batch["times"][0].numpy()
    rows, edges = most_measured(mask), bin_edges(times[mask.any(-1)])
    owed = gridded(found[:, rows], mask[:, rows], times, edges)
    names = [model.info.columns[row].name for row in rows]
    most = ", ".join(names[i] for i in np.argsort(-np.nansum(np.abs(owed.values), 1))[:3])
    caption = ABOUT.format(f"{kind} of {said.names[output]}" if len(said.names) > 1 else "prediction", most)
    figure = heat_maps({"attribution": owed}, names, f"change of the {kind}")
    return Drawn(f"attribution_{number}", OWED, caption, caption, figure)
