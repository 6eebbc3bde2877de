"""The linear probe in one go: embeddings computed once, and a convex problem solved."""

from __future__ import annotations

import logging
import time
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from slices.heads import TaskHeadConfig
from slices.heads.task_types import loss_name
from slices.training.adaptation.config import FineTuningConfig
from slices.training.config import TaskConfig
from slices.training.data.datamodule import StayDataModule
from slices.training.data.views import Index
from slices.training.errors import UserError
from slices.training.evaluation.probe import STRENGTHS, LinearProbe, fit_probe
from slices.training.finetuning import FineTuneModule

log = logging.getLogger(__name__)
SOLVED = ("binary", "multiclass", "multilabel", "regression")
NEVER = 50.0  # how far from 0 the logit of what never, or always, is; the solver has infinity


def check_trained(module: FineTuneModule) -> None:
    """Raises ``UserError`` where the encoder has weights that nobody trained: the probe would see noise."""
    if module.untrained:
        name = module.config.encoder.name if module.config.encoder else "..."
        raise UserError(
            "training.solve_head=true trains nothing, but the checkpoint has no "
            f"{', '.join(module.untrained)}: use encoder={name} encoder.pooling=mean, or solve_head=false"
        )


def check_solvable(task: TaskConfig, head: TaskHeadConfig) -> None:
    """Raises ``UserError`` for a head that is more than a linear probe; all of it is listed."""
    plain = loss_name(head.task_type, None) if head.task_type in SOLVED else None
    faults = [
        f"task.{name}={value} (use {remedy})"
        for name, value, remedy, wrong in (
            ("head_type", task.head_type, "linear", task.head_type != "linear"),
            ("task_type", head.task_type, "one of " + ", ".join(SOLVED), head.task_type not in SOLVED),
            ("loss", head.loss, str(plain), plain is not None and head.loss not in (None, plain)),
            ("class_weight", task.class_weight, "null", task.class_weight is not None),
            ("label_smoothing", task.label_smoothing, "0", bool(task.label_smoothing)),
            ("also", list(task.also), "{}", bool(task.also)),
        )
        if wrong
    ]
    if faults:
        raise UserError(f"training.solve_head=true is for a plain linear head: {'; '.join(faults)}")


class Embedded(NamedTuple):
    """Embeddings, one row a sample or labelled step, with label, label mask and patient."""

    features: Float[Tensor, "N H"]
    label: Shaped[Tensor, "*label"]
    label_mask: Bool[Tensor, "*label"]
    patient: Int[Tensor, "N"]


@torch.no_grad()
def embedded(module: FineTuneModule, datamodule: StayDataModule, split: str) -> Embedded:
    """Embeddings of a split's samples, or of their steps with a label, with label, mask and patient.

    Computed on the module's device, batch by batch, each sample once; they come to the CPU.
    """
    parts = []
    for batch in datamodule.loader(split):
        moved = {key: value.to(module.device) for key, value in batch.items() if isinstance(value, Tensor)}
        embedding = module.embed(moved).float().cpu()
        label, mask, patient = batch["label"], batch["label_mask"], batch["patient_id"]
        if embedding.ndim == 3:
            there = mask if mask.ndim == 2 else mask.any(-1)
            patient = patient.unsqueeze(1).expand(there.shape)[there]
            embedding, label, mask = embedding[there], label[there], mask[there]
        parts.append((embedding, label, mask, patient))
    return Embedded(*(torch.cat(part) for part in zip(*parts, strict=True)))


@torch.no_grad()
def embeddings(module: FineTuneModule, datamodule: StayDataModule, rows: Index) -> Float[Tensor, "M H"]:
    """Of any samples, or of their steps, with a label or without; they come to the CPU."""
    parts = []
    for batch in datamodule.cuts(rows):
        moved = {key: value.to(module.device) for key, value in batch.items() if isinstance(value, Tensor)}
        embedding = module.embed(moved).float()
        parts.append((embedding[moved["padding_mask"]] if embedding.ndim == 3 else embedding).cpu())
    return torch.cat(parts)


def strengths_of(training: FineTuningConfig) -> tuple[float, ...]:
    """The penalties that a probe chooses from."""
    return STRENGTHS if training.probe_strength is None else (training.probe_strength,)


def solve_head(module: FineTuneModule, datamodule: StayDataModule) -> LinearProbe:
    """Sets the module's linear head to the solution on its training split, and gives it.

    L2-regularised, with ``training.probe_strength`` or the strength of the least held-out loss by patients
    (``fit_probe``). The head takes embeddings as they are: the standardisation is folded into it.

    Raises:
        UserError: a head that is more than a linear probe.
        ValueError: no label, or embeddings that are not finite.
    """
    check_solvable(module.config.task, module.head.config)
    check_trained(module)
    began = time.perf_counter()
    module.eval()
    rows = embedded(module, datamodule, "train")
    seconds = time.perf_counter() - began
    task, background = module.head.config, None
    if module.config.training.probe_prior == "covariance":
        background = embeddings(module, datamodule, datamodule.training_rows)
    probe = fit_probe(
        rows.features,
        rows.label,
        task.task_type,
        n_classes=task.n_outputs,
        label_mask=rows.label_mask,
        group=rows.patient,
        background=background,
        strengths=strengths_of(module.config.training),
        seed=module.config.seed,
    )
    (layer,) = (part for part in module.head.modules() if isinstance(part, nn.Linear))
    weight = probe.weight / probe.scale.unsqueeze(-1)
    bias = probe.bias.nan_to_num(posinf=NEVER, neginf=-NEVER) - probe.mean @ weight
    with torch.no_grad():
        layer.weight.copy_(weight.T)
        layer.bias.copy_(bias)
    strengths = ", ".join(f"{strength:g}" for strength in np.unique(probe.strength))
    log.info(
        "linear head solved: %s embeddings in %.1f s, solution in %.1f s, strength %s",
        f"{len(rows.features):,}",
        seconds,
        time.perf_counter() - began - seconds,
        strengths,
    )
    return probe
