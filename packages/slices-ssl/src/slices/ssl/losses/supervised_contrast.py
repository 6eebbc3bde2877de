"""Supervised contrastive loss: stays of one class are positives of each other. B stays, P width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from ..distributed import gather, rank
from .averages import masked_mean
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
    everyone = torch.ones(len(first), dtype=torch.bool, device=first.device)
    valid = everyone if valid is None else valid
    labelled = everyone if labelled is None else labelled
    anchors = torch.cat([first, second])
    keys = gather(torch.stack([first, second], dim=1)).transpose(0, 1).flatten(0, 1)
    with torch.autocast(first.device.type, enabled=False):
        anchors, keys = (F.normalize(part.float(), dim=-1) for part in (anchors, keys))
        logits = anchors @ keys.T / temperature

    stay = rank() * len(first) + torch.arange(len(first), device=first.device)
    key_stay = torch.arange(len(keys) // 2, device=first.device)
    classes = torch.where(labelled, label, -1).float()
    key_class, key_valid = gather(classes), gather(valid.float()).bool()
    key_labelled = gather(labelled.float()).bool()
    same_class = (classes[:, None] == key_class) & labelled[:, None] & key_labelled
    same = (stay[:, None] == key_stay) | same_class
    itself = torch.arange(len(keys), device=first.device) == torch.cat([stay, stay + len(key_stay)])[:, None]
    others = key_valid.repeat(2) & ~itself
    positive = same.repeat(2, 2) & others

    # Not -inf: a row may have nothing to compare with, and must stay finite to count for nothing.
    logits = logits.masked_fill(~others, torch.finfo(torch.float32).min)
    of_positives = torch.where(positive, logits, 0.0).sum(-1) / positive.sum(-1).clamp(min=1)
    return masked_mean(logits.logsumexp(-1) - of_positives, valid.repeat(2) & positive.any(-1))


class SupervisedContrastiveLoss(LossModule):
    """:func:`supervised_contrastive_loss` as a module."""

    function = staticmethod(supervised_contrastive_loss)
