"""Supervised contrastive loss: stays of one class are positives of each other. B stays, P width."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from ..distributed import gather, rank
from .averages import masked_mean
from .contrast import instance_contrast
from .module import LossModule


def supervised_contrastive_loss(
    first: Float[Tensor, "B P"],
    second: Float[Tensor, "B P"],
    label: Shaped[Tensor, "B"],
    labelled: Bool[Tensor, "B"] | None = None,
    valid: Bool[Tensor, "B"] | None = None,
    temperature: float = 0.1,
) -> Float[Tensor, ""]:
    """Supervised contrastive learning (Khosla et al., 2020, equation 2, "L_out").

    Mean over both views of every stay of the mean over its positives p of
    -log(exp(s_ip / temperature) / sum_k exp(s_ik / temperature)), k over all views but its own. Positives are
    its other view and both views of the stays with its label, of all ranks. A stay that is not ``labelled``
    has its other view alone, as in :func:`~slices.ssl.losses.nt_xent`.

    >>> rows = torch.eye(4)
    >>> label = torch.tensor([0, 0, 1, 1])
    >>> supervised_contrastive_loss(rows, rows, label) > supervised_contrastive_loss(
    ...     rows[[0, 0, 1, 1]], rows[[0, 0, 1, 1]], label
    ... )
    tensor(True)
    """
    if labelled is None:
        labelled = torch.ones(len(first), dtype=torch.bool, device=first.device)
    guesses = instance_contrast(first, second, temperature, valid)
    logits = guesses.logits  # the lowest number where a key is the anchor itself, or not valid
    stay = rank() * len(first) + torch.arange(len(first), device=first.device)
    key_stay = torch.arange(logits.shape[1] // 2, device=first.device)
    classes = torch.where(labelled, label, -1).float()
    same_class = (classes[:, None] == gather(classes)) & labelled[:, None] & gather(labelled.float()).bool()
    same = (stay[:, None] == key_stay) | same_class
    positive = same.repeat(2, 2) & (logits > torch.finfo(logits.dtype).min)
    of_positives = torch.where(positive, logits, 0.0).sum(-1) / positive.sum(-1).clamp(min=1)
    return masked_mean(logits.logsumexp(-1) - of_positives, guesses.valid & positive.any(-1))


class SupervisedContrastiveLoss(LossModule):
    """:func:`supervised_contrastive_loss` as a module."""

    function = staticmethod(supervised_contrastive_loss)
