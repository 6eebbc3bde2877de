"""Regularisation at the input: steps and variables of training stays that the encoder is not shown."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool
from torch import Tensor


def hide(
    batch: Mapping[str, Tensor], steps: float, variables: float, static: Bool[Tensor, "D"]
) -> dict[str, Tensor]:
    """The batch with whole steps, and whole variables, of each stay taken as unobserved.

    Bin masking and variable dropout, as DuETT regularises fine-tuning (Labach et al. 2023, section 3.4). A
    hidden step is still real, as an hour without measurements is. Statics are always shown.

    Args:
        batch: ``timeseries``, ``mask`` and ``counts`` ``(B, T, D)`` among others.
        steps, variables: probability of each to be hidden.
        static: True = a static column, which is not hidden.

    >>> batch = {"timeseries": torch.ones(1, 2, 3), "mask": torch.ones(1, 2, 3, dtype=torch.bool)}
    >>> hide(batch, 0.0, 0.999999, static=torch.tensor([True, False, False]))["timeseries"][0]
    tensor([[1., 0., 0.],
            [1., 0., 0.]])
    """
    mask = batch["mask"]
    b, t, d = mask.shape
    shown = torch.rand(b, t, 1, device=mask.device) >= steps
    shown = shown & (torch.rand(b, 1, d, device=mask.device) >= variables)
    shown = shown | static
    hidden = {key: batch[key] * shown for key in ("timeseries", "counts") if key in batch}
    return {**batch, **hidden, "mask": mask & shown}
