"""``TrainedModel``: from values in raw units to calibrated probabilities and a decision.

Letters: B stays, T time steps, D variables, C classes, labels or targets.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from slices.encoders import BaseEncoder, EncoderCard, Normalizer
from slices.heads import BaseTaskHead, TaskHeadConfig, predictions
from slices.ssl.encoding import INPUTS, accepted_inputs
from slices.training.batch import keywords
from slices.training.serving.info import ModelInfo

ROUNDING = 1e-5  # a threshold is some validation stay's own probability, computed in another batch
WITH_TEMPERATURE = ("binary", "multiclass", "multilabel", "ordinal")


class TrainedModel(nn.Module):
    """A fine-tuned model with all it needs: give it raw units.

    Args:
        encoder, head, normalizer: as they were trained.
        info: the task, the view, temperature and thresholds.
        card: the encoder's own, of its pretraining.

    Raises:
        ValueError: parts that do not fit together, all of it listed.
    """

    def __init__(
        self,
        encoder: BaseEncoder,
        head: BaseTaskHead,
        normalizer: Normalizer,
        info: ModelInfo,
        card: EncoderCard | None = None,
    ) -> None:
        super().__init__()
        _check_fit(encoder, head, normalizer, info)
        self.encoder, self.head, self.normalizer = encoder, head, normalizer
        self.info = info
        self.card = card or EncoderCard()
        self._accepts = accepted_inputs(encoder)
        self.eval()

    @property
    def task(self) -> TaskHeadConfig:
        """Name, type, classes and quantiles."""
        return self.head.config

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.normalizer.location.device

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T D"] | None = None,
        padding_mask: Bool[Tensor, "B T"] | None = None,
        times: Float[Tensor, "B T"] | None = None,
        counts: Float[Tensor, "B T D"] | None = None,
    ) -> dict[str, Tensor]:
        """``{"logits", "probs"}`` of values in raw units, and what more the head gives; probs calibrated.

        Shapes are the head's: ``(B, C)``, or ``(B, T, C)`` with one prediction a step. What is not given is
        taken as in ``BaseEncoder.forward``.
        """
        given = {"mask": mask, "padding_mask": padding_mask, "times": times, "counts": counts}
        embedding = self.encoder(self.normalizer(x, mask), **keywords(given, self._accepts))
        outputs: dict[str, Tensor] = self.head(embedding, *((padding_mask,) if self.head.pools_steps else ()))
        if self.info.temperature is None or self.task.task_type not in WITH_TEMPERATURE:
            return outputs
        return outputs | {
            "probs": predictions(outputs["logits"] / self.info.temperature, self.task.task_type)
        }

    @torch.no_grad()
    def predict(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``forward`` of a batch in raw units (as ``View.cut`` gives it), and ``predicted``, on the CPU.

        ``predicted`` has the shape of ``probs``: 1 for the class or labels decided for, 0 for the others, NaN
        where no threshold was chosen. A regression has none.
        """
        was_training = self.training
        self.eval()
        inputs = {name: batch[name].to(self.device) for name in INPUTS if name in batch}
        outputs = {
            name: value.float().cpu()
            for name, value in self(batch["timeseries"].to(self.device), **inputs).items()
        }
        self.train(was_training)
        if self.task.task_type in WITH_TEMPERATURE:
            plain = predictions(outputs["logits"], self.task.task_type)  # no temperature can move a decision
            outputs["predicted"] = decide(plain, self.task.task_type, self.info.thresholds)
        return outputs

    @property
    def thresholds(self) -> tuple[float | None, ...]:
        """Those of the probabilities that it gives, that is at its temperature."""
        temperature = self.info.temperature
        if temperature is None:
            return self.info.thresholds
        return tuple(t if t is None else _at_temperature(t, temperature) for t in self.info.thresholds)

    def uncalibrated(self) -> TrainedModel:
        """The same model, sharing its parts, without a temperature."""
        info = dataclasses.replace(self.info, temperature=None)
        return TrainedModel(self.encoder, self.head, self.normalizer, info, self.card)


def decide(
    probs: Float[Tensor, "*batch C"], task_type: str, thresholds: tuple[float | None, ...]
) -> Float[Tensor, "*batch C"]:
    """1 where a class or label is decided for, 0 elsewhere, NaN where there is no threshold for it.

    Binary and multilabel by threshold (at and above it, whatever the rounding), of several classes the
    likeliest.

    >>> decide(torch.tensor([[0.6, 0.4]]), "binary", (0.3,))
    tensor([[0., 1.]])
    >>> decide(torch.tensor([[0.6]]), "multilabel", (None,))
    tensor([[nan]])
    """
    if task_type in ("multiclass", "ordinal"):
        return nn.functional.one_hot(probs.argmax(-1), probs.shape[-1]).float()
    edges = torch.tensor([math.nan if edge is None else edge for edge in thresholds])
    score = probs[..., -1:] if task_type == "binary" else probs
    if not len(edges):
        edges = torch.full((score.shape[-1],), math.nan)
    alarm = torch.where(edges.isnan(), edges, (score >= edges * (1 - ROUNDING)).float())
    return torch.cat([1 - alarm, alarm], dim=-1) if task_type == "binary" else alarm


def _at_temperature(prob: float, temperature: float) -> float:
    if prob in (0.0, 1.0):
        return prob
    return 1 / (1 + math.exp(-(math.log(prob) - math.log1p(-prob)) / temperature))


def _check_fit(encoder: BaseEncoder, head: BaseTaskHead, normalizer: Normalizer, info: ModelInfo) -> None:
    wrong = []
    width = len(info.columns)
    if encoder.d_input != width:
        wrong.append(f"the encoder takes {encoder.d_input} variables, {width} are named")
    if len(normalizer.location) != width:
        wrong.append(f"the normaliser has {len(normalizer.location)} variables, {width} are named")
    if head.input_dim != encoder.output_dim:
        wrong.append(
            f"the head takes embeddings {head.input_dim} wide, the encoder's are {encoder.output_dim}"
        )
    if set(encoder.config.static_columns) != set(info.static_columns):
        wrong.append(
            f"static columns: {tuple(encoder.config.static_columns)} of the encoder, {info.static_columns} "
            "of the variables"
        )
    labels = {"binary": 1, "multilabel": head.config.n_outputs}.get(head.config.task_type, 0)
    if len(info.thresholds) not in (0, labels):
        wrong.append(f"{len(info.thresholds)} thresholds for {labels} labels")
    intervals = head.config.n_outputs if head.config.task_type == "survival" else 0
    if len(info.task.interval_ends) != intervals:
        wrong.append(f"{len(info.task.interval_ends)} ends for {intervals} intervals")
    if wrong:
        raise ValueError("the parts of the model do not fit together: " + "; ".join(wrong))
