"""A pretrained objective at work: what is hidden from it of some stays, and what it says was there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import torch
from torch import Tensor

from slices.ssl.encoding import INPUTS
from slices.training.batch import keywords
from slices.training.data.datamodule import StayDataModule
from slices.training.data.views import Index
from slices.training.evaluation.bootstrap import Array
from slices.training.looking.drawing import heat_maps
from slices.training.looking.grid import bin_edges, gridded, most_measured
from slices.training.pretraining import SSLPretrainModule
from slices.training.report.figure import Drawn
from slices.training.report.page import Section

UNIT = "standard deviations from the mean of training stays"
FOUND = ("measured",)  # beside embeddings
FIELDS = ("x", "mask", "asked", "values", "times")
MEASURED, PREDICTED = "measured", "predicted where it was hidden"


def sections_of(module: SSLPretrainModule, data: StayDataModule, rows: Index, seed: int) -> list[Section]:
    """A section a stay."""
    batch, stays = data.cut(rows), data.stay_ids(rows)
    fields = _predicted(module.eval(), batch, seed)
    sections = []
    for number, stay in enumerate(stays):
        one = {name: field[number] for name, field in fields.items()}
        sections.append(Section(f"Stay {stay}", figures=(_heat_map(number, one, data.variables),)))
    return sections


@torch.no_grad()
def _predicted(module: SSLPretrainModule, batch: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Values, mask and times of stays, which of the measured cells were hidden, and what was said of them."""
    objective, x, mask = module.objective, batch["timeseries"], batch["mask"]
    given = keywords(batch, frozenset(INPUTS) - {"mask"})
    asked, values = torch.zeros_like(mask), x
    if objective.predicts_values:
        random = torch.Generator().manual_seed(seed)
        draw = objective.draw(x, mask, given["padding_mask"], given["times"], random)
        said = objective.predict_values(x, mask, **given, draw=draw)
        asked, values = said.asked & mask, said.values
    return dict(zip(FIELDS, (x, mask, asked, values, given["times"]), strict=True))


def _heat_map(number: int, fields: Mapping[str, Tensor], variables: Sequence[str]) -> Drawn:
    x, mask, asked, values, times = (fields[name].numpy() for name in FIELDS)
    rows, edges = most_measured(mask), bin_edges(times[mask.any(-1)])
    panels = {MEASURED: gridded(x[:, rows], mask[:, rows], times, edges)}
    marked, said = None, ""
    if asked.any():
        marked = gridded(x[:, rows], asked[:, rows], times, edges)
        panels[PREDICTED] = gridded(values[:, rows], asked[:, rows], times, edges)
        error = float(np.sqrt(np.square(values - x)[asked].mean()))
        said = (
            f" Of {mask.sum()} values {asked.sum()} were hidden (a dot); root mean square error of what was "
            f"predicted {error:.2f}."
        )
    names = [variables[row] for row in rows]
    caption = f"Variables by time, the most measured first; empty: nothing measured.{said}"
    alt = f"Heat map of {len(names)} variables, {', '.join(names[:5])} ..., over {edges[-1]:g} hours.{said}"
    return Drawn(f"stay_{number}", "What was measured", caption, alt, heat_maps(panels, names, UNIT, marked))


@torch.no_grad()
def embeddings_of(
    module: SSLPretrainModule, data: StayDataModule, rows: Index
) -> tuple[Array, dict[str, pl.Series]]:
    """Embeddings ``(N, H)``, and how many values of each stay were measured."""
    module.eval()
    parts = [(module.embed(batch), batch["mask"].sum((1, 2))) for batch in data.cuts(rows)]
    embedding, n_measured = (torch.cat(part).double().numpy() for part in zip(*parts, strict=True))
    return embedding, {"measured": pl.Series("values measured", n_measured)}
