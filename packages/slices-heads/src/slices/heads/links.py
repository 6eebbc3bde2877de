"""From the numbers of a head's last layer to logits and predictions, by the type of task.

A link's ``width`` is how many numbers the last layer gives. Letters: C classes, labels or targets, Q
quantiles, K intervals, R risks, W the width.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .config import TaskHeadConfig
from .ordinal import Thresholds, ordinal_log_probs
from .survival import cumulative_incidence
from .task_types import TaskType

LEAST_VARIANCE = 1e-6


class PlainLink(nn.Module):
    """Binary, multiclass, multilabel, and a regression to points: the numbers are the logits ``(..., C)``."""

    def __init__(self, config: TaskHeadConfig) -> None:
        super().__init__()
        self.task_type = config.task_type
        self.width = config.n_outputs

    def forward(self, raw: Float[Tensor, "*batch C"]) -> dict[str, Tensor]:
        return {"logits": raw, "probs": predictions(raw, self.task_type)}


class OrdinalLink(nn.Module):
    """One score, and learned thresholds: logits ``(..., C)`` are the classes' log-probabilities."""

    width = 1

    def __init__(self, config: TaskHeadConfig) -> None:
        super().__init__()
        self.threshold = Thresholds(config.n_outputs)

    def forward(self, raw: Float[Tensor, "*batch 1"]) -> dict[str, Tensor]:
        logits = ordinal_log_probs(raw.squeeze(-1), self.threshold())
        return {"logits": logits, "probs": predictions(logits, "ordinal")}


class SurvivalLink(nn.Module):
    """Hazards of K intervals and R risks: logits ``(..., K, R)``; ``probs``: cumulative incidence."""

    def __init__(self, config: TaskHeadConfig) -> None:
        super().__init__()
        self.shape = (config.n_outputs, config.n_risks)
        self.width = math.prod(self.shape)

    def forward(self, raw: Float[Tensor, "*batch W"]) -> dict[str, Tensor]:
        logits = raw.reshape(*raw.shape[:-1], *self.shape)
        return {"logits": logits, "probs": predictions(logits, "survival")}


class GaussianLink(nn.Module):
    """Logits ``(..., C, 2)``: mean and log-variance. ``probs (..., C)`` is the mean, ``scale`` the deviation.

    The variance stays above 1e-6, so that a label that is met exactly does not make the likelihood infinite.
    """

    def __init__(self, config: TaskHeadConfig) -> None:
        super().__init__()
        self.shape = (config.n_outputs, 2)
        self.width = math.prod(self.shape)

    def forward(self, raw: Float[Tensor, "*batch W"]) -> dict[str, Tensor]:
        mean, log_variance = raw.float().reshape(*raw.shape[:-1], *self.shape).unbind(-1)
        log_variance = F.softplus(log_variance - math.log(LEAST_VARIANCE)) + math.log(LEAST_VARIANCE)
        logits = torch.stack([mean, log_variance], dim=-1)
        return {"logits": logits, "probs": mean, "scale": torch.exp(log_variance / 2)}


class QuantileLink(nn.Module):
    """Logits ``(..., C, Q)`` are the quantiles, which never cross; ``probs (..., C)`` is the median.

    Each is the one before plus a softplus: Park et al., "Learning quantile functions without quantile
    crossing for distribution-free time series forecasting" (2022).
    """

    def __init__(self, config: TaskHeadConfig) -> None:
        super().__init__()
        self.shape = (config.n_outputs, len(config.quantiles))
        self.width = math.prod(self.shape)
        self.median = config.quantiles.index(0.5)

    def forward(self, raw: Float[Tensor, "*batch W"]) -> dict[str, Tensor]:
        raw = raw.float().reshape(*raw.shape[:-1], *self.shape)
        logits = torch.cat([raw[..., :1], F.softplus(raw[..., 1:])], dim=-1).cumsum(-1)
        return {"logits": logits, "probs": logits[..., self.median]}


Link = PlainLink | OrdinalLink | SurvivalLink | GaussianLink | QuantileLink


def make_link(config: TaskHeadConfig) -> Link:
    """The link that a task's type and loss ask for."""
    if config.task_type == "ordinal":
        return OrdinalLink(config)
    if config.task_type == "survival":
        return SurvivalLink(config)
    if config.loss == "gaussian":
        return GaussianLink(config)
    return QuantileLink(config) if config.loss == "quantile" else PlainLink(config)


def predictions(logits: Float[Tensor, "*logits"], task_type: TaskType) -> Float[Tensor, "*logits"]:
    """What the logits say: softmax (binary, multiclass, ordinal), sigmoid (multilabel), the cumulative
    incidence (survival), themselves (a regression to points).

    >>> predictions(torch.tensor([0.0, 0.0]), "multiclass"), predictions(torch.tensor([0.0]), "multilabel")
    (tensor([0.5000, 0.5000]), tensor([0.5000]))
    """
    if task_type in ("binary", "multiclass", "ordinal"):
        return torch.softmax(logits, dim=-1)
    if task_type == "survival":
        return cumulative_incidence(logits)
    return torch.sigmoid(logits) if task_type == "multilabel" else logits
