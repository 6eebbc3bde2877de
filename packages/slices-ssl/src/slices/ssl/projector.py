"""What lies between an embedding and a loss on it. Letters: N rows, H embedding width, P projection width."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .losses.averages import all_rows, moments, precise


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy, 2015) over the rows that are valid, of all ranks.

    In training with the statistics of the batch, as long as two rows are valid; else with the running ones.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, rows: Float[Tensor, "N P"], valid: Bool[Tensor, "N"]) -> Float[Tensor, "N P"]:
        mean, variance = precise(self.running_mean), precise(self.running_var)
        if self.training:
            of_batch, centred, n = moments(*all_rows(rows, valid))
            spread = centred.square().sum(0)
            enough = n > 1
            self._follow(self.running_mean, of_batch, enough)
            self._follow(self.running_var, spread / (n - 1).clamp(min=1), enough)
            mean = torch.where(enough, of_batch, mean)
            variance = torch.where(enough, spread / n.clamp(min=1), variance)
        normed = (precise(rows) - mean) * torch.rsqrt(variance + self.eps)
        return (normed * precise(self.weight) + precise(self.bias)).to(rows.dtype)

    @torch.no_grad()
    def _follow(self, running: Tensor, now: Tensor, enough: Tensor) -> None:
        running.lerp_(torch.where(enough, now.detach().to(running.dtype), running), self.momentum)


class Projector(nn.Module):
    """A perceptron: ``n_layers`` linear layers with ReLU and, if asked for, batch normalisation between."""

    def __init__(
        self, input_dim: int, hidden: int, output_dim: int, n_layers: int = 2, norm: bool = True
    ) -> None:
        super().__init__()
        widths = [input_dim, *[hidden] * (n_layers - 1), output_dim]
        self.layers = nn.ModuleList(nn.Linear(width, next_) for width, next_ in pairwise(widths))
        self.norms = nn.ModuleList(BatchNorm(hidden) for _ in range(n_layers - 1)) if norm else None

    def forward(self, rows: Float[Tensor, "N H"], valid: Bool[Tensor, "N"]) -> Float[Tensor, "N P"]:
        *inner, last = self.layers
        for i, layer in enumerate(inner):
            rows = layer(rows)
            rows = torch.relu(rows if self.norms is None else self.norms[i](rows, valid))
        projected: Tensor = last(rows)
        return projected
