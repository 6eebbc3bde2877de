"""A model as a graph that runs without SLICES (``torch.export``), compared with it before it is kept."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from slices.training.data.views import EDGE
from slices.training.errors import UserError
from slices.training.serving.model import TrainedModel

INPUTS = ("x", "mask", "padding_mask", "times", "counts")
CHECKED_AT = (1, 2, 5)  # stays in a batch
TOLERANCE = 1e-5


def export_model(model: TrainedModel, n_steps: int) -> ExportedProgram:
    """``model(x, mask, padding_mask, times, counts)`` as a graph for any number of stays of ``n_steps``.

    Raises:
        UserError: a graph that gives other numbers than the model.
    """
    dynamic = tuple({0: Dim("stays", min=1)} for _ in INPUTS)
    with warnings.catch_warnings():  # of recurrences, whose list of weights torch handles
        warnings.filterwarnings("ignore", "The tensor attributes self")
        program = torch.export.export(model, _example(model, 2, n_steps), dynamic_shapes=dynamic)
    for size in CHECKED_AT:
        inputs = _example(model, size, n_steps)
        with torch.no_grad():
            expected, found = model(*inputs), program.module()(*inputs)
        for name, value in expected.items():
            if not torch.allclose(value, found[name], atol=TOLERANCE, rtol=TOLERANCE):
                raise UserError(f"the exported model gives other {name} than the model, for {size} stays")
    return program


def save_exported(path: Path, model: TrainedModel, n_steps: int) -> Path:
    """The graph as ``.pt2``, with what it wants to be fed as ``model.json`` in it; whole or not at all."""
    program = export_model(model, n_steps)
    about = {"inputs": INPUTS, "n_steps": n_steps, "task": asdict(model.task), "model": asdict(model.info)}
    about["thresholds"] = model.thresholds
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial.{path.name}")
    try:
        torch.export.save(program, partial, extra_files={"model.json": json.dumps(about)})
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _example(model: TrainedModel, size: int, n_steps: int) -> tuple[Tensor, ...]:
    """Random stays in raw units, of different lengths."""
    generator = torch.Generator().manual_seed(size)
    width = len(model.info.columns)
    noise = torch.randn(size, n_steps, width, generator=generator)
    x = model.normalizer.inverse(noise.to(model.device)).cpu()
    length = torch.randint(1, n_steps + 1, (size, 1), generator=generator)
    real = torch.arange(n_steps) < length
    mask = (torch.rand(x.shape, generator=generator) < 0.3) & real.unsqueeze(-1)
    step = model.info.view.resolution
    times = torch.arange(n_steps) * (1.0 if isinstance(step, str) else step) * real
    return torch.where(mask, x, 0.0), mask, real, times.float(), mask.float()


def steps_of(model: TrainedModel, asked: int | None) -> int:
    """Time steps of the graph. Raises ``UserError`` where they must be given, or are the grid's."""
    view = model.info.view
    if isinstance(view.resolution, str):
        if asked is None:
            raise UserError("n_steps is missing: measured timestamps have no number of steps of their own")
        return asked
    span = min(view.window.length if view.window else view.horizon, view.horizon)
    of_grid = max(1, math.ceil((span - EDGE) / view.resolution))
    if asked not in (None, of_grid):
        raise UserError(f"n_steps={asked}: the model's grid has {of_grid}; leave it out")
    return of_grid
