"""Continuous time as a vector."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class TimeEmbedding(nn.Module):
    """Sines and cosines of time at geometric periods, mixed by a linear map.

    The sinusoids of Vaswani et al. 2017, section 3.5, for times in hours instead of positions: no
    length is stored, and any time between steps has its place.

    Args:
        d_model: width of the embedding.
        n_periods: number of periods.
        shortest, longest: the first and the last period in hours.

    >>> TimeEmbedding(8)(torch.tensor([[0.0, 0.25, 49.5]])).shape
    torch.Size([1, 3, 8])
    """

    def __init__(
        self, d_model: int, n_periods: int = 16, shortest: float = 0.5, longest: float = 1000.0
    ) -> None:
        super().__init__()
        self.n_periods = n_periods
        self.fastest = 2 * math.pi / shortest
        self.log_ratio = math.log(shortest / longest) / (n_periods - 1)
        self.mix = nn.Linear(2 * n_periods, d_model)

    def forward(self, times: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape H"]:
        """Embed times in hours. The angles are taken in float32 whatever the weights are."""
        rank = torch.arange(self.n_periods, device=times.device, dtype=torch.float32)
        angle = times.float().unsqueeze(-1) * (self.fastest * torch.exp(self.log_ratio * rank))
        waves = torch.cat((angle.sin(), angle.cos()), dim=-1)
        embedding: Tensor = self.mix(waves.to(self.mix.weight.dtype))
        return embedding
