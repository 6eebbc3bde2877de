"""A number as a vector."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ContinuousEmbedding(nn.Module):
    """One number through a small net: ``W2 tanh(W1 x + b1)``, about ``sqrt(d_model)`` wide inside.

    The continuous value embedding of STraTS (Tipirneni & Reddy 2022), section 3.3.

    >>> ContinuousEmbedding(16)(torch.randn(2, 7)).shape
    torch.Size([2, 7, 16])
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        inner = max(1, math.isqrt(d_model))
        self.inner = nn.Linear(1, inner)
        self.outer = nn.Linear(inner, d_model, bias=False)

    def forward(self, number: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape H"]:
        inner = torch.tanh(self.inner(number.unsqueeze(-1).to(self.inner.weight.dtype)))
        embedding: Tensor = self.outer(inner)
        return embedding
