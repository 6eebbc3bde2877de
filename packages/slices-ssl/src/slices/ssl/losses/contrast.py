"""Contrastive losses of two views: which key is an anchor's other view?

Letters: B stays, T time steps, P projection width; ``...`` any shape.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..distributed import gather, rank
from .averages import masked_mean
from .module import LossModule


class Contrast(NamedTuple):
    """A batch of guesses which key is an anchor's other view; A anchors, K keys."""

    logits: Float[Tensor, "... A K"]
    target: Int[Tensor, "... A"]
    valid: Bool[Tensor, "... A"]

    @property
    def positive(self) -> Float[Tensor, "... A"]:
        """The logit of the right answer."""
        return self.logits.take_along_dim(self.target.unsqueeze(-1), -1).squeeze(-1)

    def loss(self) -> Float[Tensor, ""]:
        """Cross-entropy, averaged over the valid anchors."""
        return masked_mean(self.logits.logsumexp(-1) - self.positive, self.valid)

    def accuracy(self) -> Float[Tensor, ""]:
        """How often the other view is the nearest key."""
        return masked_mean((self.logits.argmax(-1) == self.target).float(), self.valid)


def instance_contrast(
    first: Float[Tensor, "B P"],
    second: Float[Tensor, "B P"],
    temperature: float = 0.1,
    valid: Bool[Tensor, "B"] | None = None,
) -> Contrast:
    """Each stay's two views against both views of every other stay, of all ranks; see :func:`nt_xent`."""
    if valid is None:
        valid = torch.ones(first.shape[:1], dtype=torch.bool, device=first.device)
    anchors = torch.stack([first, second])
    keys = gather(anchors.transpose(0, 1)).transpose(0, 1)
    valid_keys = gather(valid.float()).bool()
    own = rank() * len(first) + torch.arange(len(first), device=first.device)
    return _contrast(anchors, keys, own, temperature, valid.repeat(2), valid_keys.repeat(2))


def temporal_contrast(
    first: Float[Tensor, "B T P"],
    second: Float[Tensor, "B T P"],
    temperature: float = 0.1,
    valid: Bool[Tensor, "B T"] | None = None,
) -> Contrast:
    """Each step's two views against both views of the stay's other steps; see :func:`temporal_nt_xent`."""
    if valid is None:
        valid = torch.ones(first.shape[:2], dtype=torch.bool, device=first.device)
    views = torch.stack([first, second], dim=1)
    own = torch.arange(first.shape[1], device=first.device)
    return _contrast(views, views, own, temperature, valid.repeat(1, 2), valid.repeat(1, 2))


def _contrast(
    anchors: Float[Tensor, "... 2 A P"],
    keys: Float[Tensor, "... 2 K P"],
    own: Int[Tensor, "A"],
    temperature: float,
    valid: Bool[Tensor, "... 2*A"],
    valid_keys: Bool[Tensor, "... 2*K"],
) -> Contrast:
    """``own`` is where among the K items of a view each of the A anchored ones lies."""
    n_keys = keys.shape[-2]
    itself, other = torch.cat([own, own + n_keys]), torch.cat([own + n_keys, own])
    with torch.autocast(anchors.device.type, enabled=False):
        anchors, keys = (F.normalize(part.flatten(-3, -2).float(), dim=-1) for part in (anchors, keys))
        logits = anchors @ keys.mT / temperature
    is_itself = itself.unsqueeze(-1) == torch.arange(2 * n_keys, device=own.device)
    # Not -inf: a row may have nothing to compare with, and must stay finite to count for nothing.
    logits = logits.masked_fill(is_itself | ~valid_keys.unsqueeze(-2), torch.finfo(torch.float32).min)
    # an anchor that is alone has nothing to be told from, and would only dilute the mean
    counts = valid & (valid_keys.sum(-1, keepdim=True) > 2)
    return Contrast(logits, other.expand(valid.shape), counts)


def nt_xent(
    first: Float[Tensor, "B P"],
    second: Float[Tensor, "B P"],
    temperature: float = 0.1,
    valid: Bool[Tensor, "B"] | None = None,
) -> Float[Tensor, ""]:
    """Normalised temperature-scaled cross-entropy (SimCLR: Chen et al., 2020, equation 1).

    Mean over both views i of every stay, with j its other view, k over all views but i, and cosine
    similarity s: -log(exp(s_ij / temperature) / sum_k exp(s_ik / temperature)). Negatives come from all
    ranks, with gradient. Stays that are not ``valid`` are neither anchors nor negatives.

    >>> same = torch.eye(3)
    >>> nt_xent(same, same, temperature=0.5), nt_xent(same, same.roll(1, 0), temperature=0.5)
    (tensor(0.4327), tensor(2.4327))
    """
    return instance_contrast(first, second, temperature, valid).loss()


def temporal_nt_xent(
    first: Float[Tensor, "B T P"],
    second: Float[Tensor, "B T P"],
    temperature: float = 0.1,
    valid: Bool[Tensor, "B T"] | None = None,
) -> Float[Tensor, ""]:
    """NT-Xent between the steps of one stay: the other view of a step against all other steps.

    The temporal contrast of TS2Vec (Yue et al., 2022, equation 1), with cosine similarity and a
    temperature instead of plain dot products. Steps that are not ``valid`` take no part.

    >>> steps = torch.eye(3).expand(2, 3, 3)
    >>> temporal_nt_xent(steps, steps, temperature=0.5)
    tensor(0.4327)
    """
    return temporal_contrast(first, second, temperature, valid).loss()


class NTXentLoss(LossModule):
    """:func:`nt_xent` as a module."""

    function = staticmethod(nt_xent)


class TemporalNTXentLoss(LossModule):
    """:func:`temporal_nt_xent` as a module."""

    function = staticmethod(temporal_nt_xent)
