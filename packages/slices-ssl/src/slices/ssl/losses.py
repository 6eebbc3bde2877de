"""Losses as pure functions, and as thin modules, usable with no encoder at all.

Letters: B stays, T time steps, P projection width; ``...`` any shape. Each averages over the items that
count, of all ranks together: a rank's own value may differ, but the mean over ranks (and, under DDP,
the gradient) is that of one process with the whole batch. Where nothing counts the loss is 0.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from .distributed import rank_mean

ValueLoss = Literal["mse", "huber"]


def masked_mean(values: Float[Tensor, "..."], where: Bool[Tensor, "..."]) -> Float[Tensor, ""]:
    """The mean of ``values`` at ``where``, 0 where there is none.

    >>> masked_mean(torch.tensor([1.0, 2.0, torch.nan]), torch.tensor([True, True, False]))
    tensor(1.5000)
    """
    total = torch.where(where, values, 0.0).sum(dtype=torch.float32)
    return total / rank_mean(where.sum(dtype=torch.float32)).clamp(min=torch.finfo(torch.float32).tiny)


def value_loss(
    prediction: Float[Tensor, "..."],
    target: Float[Tensor, "..."],
    where: Bool[Tensor, "..."],
    kind: ValueLoss = "mse",
) -> Float[Tensor, ""]:
    """Squared error, or Huber's with threshold 1, averaged over the cells ``where``; each counts once.

    The reconstruction loss of masked autoencoders (He et al., 2022, section 3, "Reconstruction target").

    >>> value_loss(torch.tensor([1.0, 5.0]), torch.tensor([3.0, 0.0]), torch.tensor([True, False]))
    tensor(4.)
    """
    loss = F.mse_loss if kind == "mse" else F.huber_loss
    return masked_mean(loss(prediction.float(), target.float(), reduction="none"), where)


def latent_loss(
    prediction: Float[Tensor, "... P"], target: Float[Tensor, "... P"], where: Bool[Tensor, "..."]
) -> Float[Tensor, ""]:
    """Smooth L1 distance to the layer-normed ``target``, averaged over the vectors ``where``.

    As in I-JEPA's published training (Assran et al., 2023). No gradient reaches ``target``. Without its
    own scale a target cannot shrink the loss by shrinking.

    >>> target = torch.randn(4, 8)
    >>> latent_loss(F.layer_norm(target, (8,)), 3 * target, torch.ones(4, dtype=torch.bool)) < 1e-6
    tensor(True)
    """
    target = F.layer_norm(target.detach().float(), target.shape[-1:])
    distance = F.smooth_l1_loss(prediction.float(), target, reduction="none").mean(-1)
    return masked_mean(distance, where)
