"""Hierarchical contrast of TS2Vec. B stays, T time steps, P width, N stays of all ranks."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ..distributed import gather, rank, rank_mean
from .averages import precise
from .module import LossModule

MOST_AT_ONCE = {"cpu": 2**18, "gpu": 2**24}  # similarities held; on a CPU as many as a core's cache holds
FAR = -80.0  # below the greatest, a similarity counts nothing; exp of less would be slow, as it is subnormal


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
    in both views, take part. Similarities are computed in pieces and not kept, so that memory is linear in
    stays and steps.

    >>> steps = torch.randn(4, 6, 8)
    >>> hierarchical_loss(steps, steps).shape
    torch.Size([])
    """
    if valid is None:
        valid = torch.ones(first.shape[:2], dtype=torch.bool, device=first.device)
    views = precise(torch.stack([first, second], dim=1))  # (B, 2, T, P)
    total, n_scales = views.new_zeros(()), 0
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
    keys, key_valid = gather(views), gather(valid.float()).bool()
    of_step, all_of_step = (part.permute(2, 1, 0, 3).flatten(1, 2) for part in (views, keys))
    return _contrast(of_step, all_of_step, rank() * len(views), valid.T, key_valid.T)


def _temporal(views: Float[Tensor, "B 2 T P"], valid: Bool[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Steps are told apart in each stay."""
    steps = views.flatten(1, 2)
    return _contrast(steps, steps.view_as(steps), 0, valid, valid)


def _contrast(
    anchors: Float[Tensor, "G 2*A P"],
    keys: Float[Tensor, "G 2*K P"],
    own: int,
    valid: Bool[Tensor, "G A"],
    key_valid: Bool[Tensor, "G K"],
) -> Float[Tensor, ""]:
    """Cross-entropy in each of G groups; the A anchored items are those from ``own`` on of the K."""
    n_anchors, n_keys = valid.shape[1], key_valid.shape[1]
    valid = valid & (key_valid.sum(-1, keepdim=True) > 1)  # alone, an anchor has nothing to be told from
    n_valid = 2 * rank_mean(valid.sum(dtype=torch.float32))
    weight = valid / n_valid.clamp(min=torch.finfo(torch.float32).tiny)
    with torch.autocast(anchors.device.type, enabled=False):
        first, second = torch.split(keys, n_keys, dim=1)
        partners = torch.cat([part[:, own : own + n_anchors] for part in (second, first)], dim=1)
        alike = ((anchors * partners).sum(-1) * weight.repeat(1, 2)).sum()
        everything: Tensor = _LogSumExp.apply(  # type: ignore[no-untyped-call]
            anchors, keys, own, key_valid.repeat(1, 2), weight.repeat(1, 2)
        )
    return everything - alike


class _LogSumExp(torch.autograd.Function):
    """The weighted sum over anchors of the log-sum-exp of their dot products with all keys but themselves.

    The similarities are made in pieces, and each piece gives its part of the gradient at once, so that none
    of them is kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        anchors: Float[Tensor, "G 2*A P"],
        keys: Float[Tensor, "G 2*K P"],
        own: int,
        key_valid: Bool[Tensor, "G 2*K"],
        weight: Float[Tensor, "G 2*A"],
    ) -> Float[Tensor, ""]:
        n_anchors, n_keys = anchors.shape[1] // 2, keys.shape[1] // 2
        low = torch.finfo(anchors.dtype).min
        hidden = torch.zeros_like(key_valid, dtype=anchors.dtype).masked_fill(~key_valid, low)
        at_once = MOST_AT_ONCE["cpu" if anchors.device.type == "cpu" else "gpu"]
        size = max(at_once // (anchors.shape[1] * keys.shape[1]), 1)
        total = anchors.new_zeros(())
        of_anchors, of_keys = [], []
        pieces = (torch.split(part, size) for part in (anchors, keys, hidden, weight))
        for a, k, bias, w in zip(*pieces, strict=True):
            logits = torch.baddbmm(bias.unsqueeze(1), a, k.mT)
            for view in range(2):
                rows = logits[:, view * n_anchors : (view + 1) * n_anchors]
                rows[:, :, view * n_keys + own :].diagonal(dim1=1, dim2=2).fill_(low)  # themselves
            top = logits.amax(-1, keepdim=True)
            share = F.threshold(logits.sub_(top).clamp_(min=FAR).exp_(), 2 * math.exp(FAR), 0.0, inplace=True)
            mass = share.sum(-1, keepdim=True)
            total += ((mass.log() + top).squeeze(-1) * w).sum()
            share.mul_(w.unsqueeze(-1) / mass)
            of_anchors.append(share @ k)
            of_keys.append(share.mT @ a)
        ctx.save_for_backward(torch.cat(of_anchors), torch.cat(of_keys))
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, ""]) -> tuple[Tensor | None, ...]:
        of_anchors, of_keys = ctx.saved_tensors
        return gradient * of_anchors, gradient * of_keys, None, None, None


class HierarchicalLoss(LossModule):
    """:func:`hierarchical_loss` as a module."""

    function = staticmethod(hierarchical_loss)
