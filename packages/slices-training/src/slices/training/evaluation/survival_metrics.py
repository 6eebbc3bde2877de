"""Survival metrics over batches and ranks, of the first of the events that may compete.

Letters: B stays, T time steps, N rows, K intervals, R events.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from slices.training.evaluation.survival import integrated_brier, label_of_event, time_dependent_concordance
from slices.training.evaluation.weighted import Array

SURVIVAL_METRICS = ("concordance", "integrated_brier")


class SurvivalMetrics(Metric):
    """Gathers predictions and labels; ``compute`` gives ``survival_scores`` of the first event.

    >>> metrics = SurvivalMetrics()
    >>> probs = torch.tensor([[[0.5], [0.6]], [[0.1], [0.9]]])
    >>> metrics.update(probs, torch.tensor([[1.0, 1.0], [2.0, 1.0]]), None, torch.tensor([1.0, 2.0]))
    >>> metrics.compute()["concordance"]
    tensor(1.)
    """

    full_state_update = False
    probs: list[Tensor]
    label: list[Tensor]
    until: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("probs", default=[], dist_reduce_fx="cat")
        self.add_state("label", default=[], dist_reduce_fx="cat")
        self.add_state("until", default=torch.zeros(0), dist_reduce_fx="mean")

    def update(
        self,
        probs: Float[Tensor, "*batch K R"],
        label: Shaped[Tensor, "*batch 2"],
        label_mask: Bool[Tensor, "*batch 2"] | None,
        until: Float[Tensor, "K"],
    ) -> None:
        """Adds a batch of cumulative incidences ``until`` these hours; labels are hours and event."""
        known = label.float() if label_mask is None else torch.where(label_mask, label.float(), torch.nan)
        self.probs.append(probs.detach().float()[..., 0].flatten(0, -2))
        self.label.append(known.flatten(0, -2))
        self.until = until

    def compute(self) -> dict[str, Tensor]:
        """The metrics by name, each a 0-d tensor; NaN where the labels seen do not define it."""
        parts = (dim_zero_cat(self.probs), dim_zero_cat(self.label), self.until)
        probs, label, until = (part.cpu().double().numpy() for part in parts)
        known = np.isfinite(label).all(1)
        scores = survival_scores(probs[known], label_of_event(label[known], 1), until)
        return {
            name: torch.tensor(score, dtype=torch.float32, device=self.device)
            for name, score in scores.items()
        }


def survival_scores(incidence: Array, label: Array, until: Array) -> dict[str, float]:
    """Concordance by time and integrated Brier score of an incidence ``(N, K)`` until hours ``(K,)``.

    ``label (N, 2)`` is as ``evaluation.survival`` has it. NaN without rows, or with one interval.
    """
    weight = np.ones((1, len(label)))
    if not len(label):
        return dict.fromkeys(SURVIVAL_METRICS, float("nan"))
    brier = integrated_brier(incidence, label, weight, times=until)[0] if len(until) > 1 else float("nan")
    agreement = time_dependent_concordance(incidence, label, weight, times=until)[0]
    return {"concordance": float(agreement), "integrated_brier": float(brier)}
