"""From the tokens of a stay to one embedding.

Every pooling takes ``embedding (B, N, H)``, 0 where not valid, and ``valid (B, N)``, and gives
``(B, H)``, 0 for a stay without a valid token.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..inputs import take


class NoPooling(nn.Module):
    """The tokens as they are: ``(B, N, H)``."""

    def forward(
        self, embedding: Float[Tensor, "B N H"], valid: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B N H"]:
        return embedding


class MeanPooling(nn.Module):
    """The mean of the valid tokens."""

    def forward(self, embedding: Float[Tensor, "B N H"], valid: Bool[Tensor, "B N"]) -> Float[Tensor, "B H"]:
        count = valid.sum(1, keepdim=True).clamp(min=1)
        return embedding.sum(1) / count.to(embedding.dtype)


class MaxPooling(nn.Module):
    """The greatest value of each channel over the valid tokens."""

    def forward(self, embedding: Float[Tensor, "B N H"], valid: Bool[Tensor, "B N"]) -> Float[Tensor, "B H"]:
        greatest = embedding.masked_fill(~valid.unsqueeze(-1), -torch.inf).amax(1)
        return torch.where(valid.any(1, keepdim=True), greatest, 0.0)


class LastPooling(nn.Module):
    """The last valid token, wherever padding lies."""

    def forward(self, embedding: Float[Tensor, "B N H"], valid: Bool[Tensor, "B N"]) -> Float[Tensor, "B H"]:
        last = valid.cumsum(1).argmax(1, keepdim=True)
        return take(embedding, last).squeeze(1)


class ClsPooling(nn.Module):
    """The first token, which the architecture put there to sum up the stay."""

    def forward(self, embedding: Float[Tensor, "B N H"], valid: Bool[Tensor, "B N"]) -> Float[Tensor, "B H"]:
        return embedding[:, 0]


class AttentionPooling(nn.Module):
    """A weighted mean of the valid tokens, weighted by a learned score of each.

    Yang et al. 2016 (Hierarchical Attention Networks), eqs. 5-7.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(d_model, d_model), nn.Tanh(), nn.Linear(d_model, 1, bias=False))

    def forward(self, embedding: Float[Tensor, "B N H"], valid: Bool[Tensor, "B N"]) -> Float[Tensor, "B H"]:
        weight = self.attention(embedding, valid)
        pooled: Tensor = weight.unsqueeze(1).to(embedding.dtype) @ embedding
        return pooled.squeeze(1)

    def attention(
        self, embedding: Float[Tensor, "B N H"], valid: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B N"]:
        """The weight of each token."""
        score = self.score(embedding).squeeze(-1)
        # A finite floor, so that a stay without tokens has weights (of zeros) and not NaN.
        return torch.softmax(score.masked_fill(~valid, torch.finfo(score.dtype).min), dim=1)


_POOLINGS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda d_model: NoPooling(),
    "mean": lambda d_model: MeanPooling(),
    "max": lambda d_model: MaxPooling(),
    "last": lambda d_model: LastPooling(),
    "cls": lambda d_model: ClsPooling(),
    "attention": AttentionPooling,
}


def make_pooling(name: str, d_model: int) -> nn.Module:
    """The pooling of this name for tokens of width ``d_model``.

    >>> pool = make_pooling("last", 1)
    >>> pool(torch.tensor([[[1.0], [2.0], [0.0]]]), torch.tensor([[True, True, False]])).tolist()
    [[2.0]]
    """
    return _POOLINGS[name](d_model)
