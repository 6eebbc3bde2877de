"""Hierarchical contrast of TS2Vec. B stays, T time steps, P width, N stays of all ranks."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..distributed import gather, rank
from .averages import masked_mean
from .module import LossModule

MOST_AT_ONCE = 2**22  # similarities held in memory


def hierarchical_loss(
    first: Float[Tensor, "B T P"],
    second: Float[Tensor, "B T P"],
    valid: Bool[Tensor, "B T"] | None = None,
    alpha: float = 0.5,
) -> Float[Tensor, ""]:
    """Hierarchical contrastive loss (TS2Vec: Yue et al., 2022, equations 1 to 3 and algorithm 1).

    At every scale ``alpha`` times the instance contrast (at one step, a stay's two views against those of
    other stays, of all ranks) plus (1 - alpha) times the temporal contrast (in one stay, a step's two views
    against those of its other steps), both by dot products; then steps are max-pooled by two, until one is
    left, which has the instance contrast alone. The mean over scales. Only the steps that are ``valid``,
    in both views, take part. Similarities are computed in pieces, and again for the gradient, so that memory
    is linear in stays and steps.

    >>> steps = torch.randn(4, 6, 8)
    >>> hierarchical_loss(steps, steps).shape
    torch.Size([])
    """
    if valid is None:
        valid = torch.ones(first.shape[:2], dtype=torch.bool, device=first.device)
    views = torch.stack([first, second], dim=1).float()  # (B, 2, T, P)
    total, n_scales = first.new_zeros((), dtype=torch.float32), 0
    while True:
        n_steps = views.shape[2]
        total = total + alpha * _instance(views, valid)
        if n_steps > 1:
            total = total + (1 - alpha) * _temporal(views, valid)
        n_scales += 1
        if n_steps == 1:
            return total / n_scales
        views, valid = _halved(views, valid)


def _halved(views: Float[Tensor, "B 2 T P"], valid: Bool[Tensor, "B T"]) -> tuple[Tensor, Tensor]:
    """Two steps become one, their greatest values; one without a partner is left out, as in the paper."""
    n_pairs = views.shape[2] // 2
    low = torch.finfo(views.dtype).min
    pairs = views.masked_fill(~valid[:, None, :, None], low)[:, :, : 2 * n_pairs]
    there = torch.unflatten(valid[:, : 2 * n_pairs], 1, (n_pairs, 2)).any(-1)
    pooled = torch.unflatten(pairs, 2, (n_pairs, 2)).amax(3)
    return pooled.masked_fill(~there[:, None, :, None], 0.0), there


def _instance(views: Float[Tensor, "B 2 T P"], valid: Bool[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Stays are told apart at each step."""
    batch = len(views)
    keys, key_valid = gather(views), gather(valid.float()).bool()
    own = rank() * batch + torch.arange(batch, device=views.device)
    return _contrast(
        views.permute(2, 1, 0, 3).flatten(1, 2),
        keys.permute(2, 1, 0, 3).flatten(1, 2),
        own,
        valid.T.repeat(1, 2),
        key_valid.T.repeat(1, 2),
    )


def _temporal(views: Float[Tensor, "B 2 T P"], valid: Bool[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Steps are told apart in each stay."""
    steps = views.flatten(1, 2)
    own = torch.arange(views.shape[2], device=views.device)
    return _contrast(steps, steps, own, valid.repeat(1, 2), valid.repeat(1, 2))


def _contrast(
    anchors: Float[Tensor, "G 2*A P"],
    keys: Float[Tensor, "G 2*K P"],
    own: Tensor,
    valid: Bool[Tensor, "G 2*A"],
    key_valid: Bool[Tensor, "G 2*K"],
) -> Float[Tensor, ""]:
    """Cross-entropy in each of G groups; ``own`` is where among the K each of the A lies."""
    n_keys = keys.shape[1] // 2
    itself, other = torch.cat([own, own + n_keys]), torch.cat([own + n_keys, own])
    is_itself = itself.unsqueeze(-1) == torch.arange(2 * n_keys, device=own.device)

    def entropy(anchors: Tensor, keys: Tensor, key_valid: Tensor) -> Tensor:
        with torch.autocast(anchors.device.type, enabled=False):
            logits = anchors @ keys.mT
        hidden = is_itself | ~key_valid.unsqueeze(-2)
        logits = logits.masked_fill(hidden, torch.finfo(torch.float32).min)
        return logits.logsumexp(-1) - (anchors * keys[:, other]).sum(-1)

    at_once = max(MOST_AT_ONCE // (anchors.shape[1] * keys.shape[1]), 1)
    if at_once >= len(anchors):
        return masked_mean(entropy(anchors, keys, key_valid), valid)
    pieces = zip(*(torch.split(part, at_once) for part in (anchors, keys, key_valid)), strict=True)
    parts = [checkpoint(entropy, *piece, use_reentrant=False) for piece in pieces]
    return masked_mean(torch.cat(parts), valid)


class HierarchicalLoss(LossModule):
    """:func:`hierarchical_loss` as a module."""

    function = staticmethod(hierarchical_loss)
