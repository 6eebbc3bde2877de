"""A temporal convolutional network: dilated, causal convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .base import TokenEncoder, register_encoder
from .config import EncoderConfig, PoolingName, require
from .inputs import StayInputs, clocked_features, real_steps_first, take
from .layers import DilatedConv, Dropout
from .tokens import Tokens, step_tokens


@dataclass(kw_only=True)
class TCNConfig(EncoderConfig):
    """Config of ``TCNEncoder``; a step sees itself and ``2 (kernel - 1) (2^n_layers - 1)`` steps before."""

    n_layers: int = 4
    kernel: int = 3
    pooling: PoolingName = "last"
    refused_poolings: ClassVar[dict[str, str]] = {"cls": "a convolutional encoder has no CLS token"}

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.kernel >= 2, f"kernel must be at least 2, got {self.kernel}")


@register_encoder("tcn", TCNConfig)
class TCNEncoder(TokenEncoder):
    """TCN (Bai et al., "An empirical evaluation of generic convolutional and recurrent networks", 2018).

    Residual blocks of two dilated causal convolutions with weight normalisation, ReLU and dropout, the
    dilation doubling from block to block (section 3). It knows the order of steps, and is told their times
    and gaps: ``clocked_features``. Padding is left out.

    >>> encoder = TCNEncoder(TCNConfig(d_input=5, d_model=16))
    >>> encoder(torch.randn(2, 7, 5)).shape
    torch.Size([2, 16])
    """

    config: TCNConfig

    def __init__(self, config: TCNConfig) -> None:
        super().__init__(config)
        widths = [4 * self.d_input + 2] + [config.d_model] * config.n_layers
        self.blocks = nn.ModuleList(
            TemporalBlock(widths[i], config.d_model, config.kernel, 2**i, config.dropout)
            for i in range(config.n_layers)
        )

    @property
    def layer_patterns(self) -> tuple[tuple[str, ...], ...]:
        """Block by block."""
        return tuple((f"blocks.{i}.*",) for i in range(self.config.n_layers))

    @property
    def causal(self) -> bool:
        """Always."""
        return True

    def encode_stay(self, stay: StayInputs) -> Tokens:
        """One token a step."""
        row, place = real_steps_first(stay)
        steps = clocked_features(row)
        for block in self.blocks:
            steps = block(steps)
        return step_tokens(take(steps, place), stay)


class TemporalBlock(nn.Module):
    """Figure 1 (b) of the paper."""

    def __init__(self, c_in: int, c_out: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.first = DilatedConv(c_in, c_out, kernel, dilation, causal=True, weight_norm=True)
        self.second = DilatedConv(c_out, c_out, kernel, dilation, causal=True, weight_norm=True)
        self.skip = nn.Linear(c_in, c_out) if c_in != c_out else nn.Identity()
        self.dropout = Dropout(dropout)

    def forward(self, steps: Float[Tensor, "B T C"]) -> Float[Tensor, "B T H"]:
        inner = self.dropout(torch.relu(self.first(steps)))
        inner = self.dropout(torch.relu(self.second(inner)))
        return torch.relu(inner + self.skip(steps))
