"""Losses between embeddings and targets that get no gradient. P: their width; ``...``: any shape."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from .averages import masked_mean
from .module import LossModule


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


def cosine_loss(
    prediction: Float[Tensor, "... P"],
    target: Float[Tensor, "... P"],
    valid: Bool[Tensor, "..."] | None = None,
) -> Float[Tensor, ""]:
    """Squared distance between unit vectors, 2 - 2 cos (BYOL: Grill et al., 2020, equation 2).

    Averaged over the valid vectors. No gradient reaches ``target``.

    >>> cosine_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]]))
    tensor(2.)
    """
    if valid is None:
        valid = torch.ones(prediction.shape[:-1], dtype=torch.bool, device=prediction.device)
    cosine = F.cosine_similarity(prediction.float(), target.detach().float(), dim=-1)
    return masked_mean(2 - 2 * cosine, valid)


class LatentLoss(LossModule):
    """:func:`latent_loss` as a module."""

    function = staticmethod(latent_loss)


class CosineLoss(LossModule):
    """:func:`cosine_loss` as a module."""

    function = staticmethod(cosine_loss)
