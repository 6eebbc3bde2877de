"""The dilated convolutions of TS2Vec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from .base import TokenEncoder, register_encoder
from .config import EncoderConfig, PoolingName, require
from .inputs import StayInputs, clocked_features, real_steps_first, take
from .layers import DilatedConv, Dropout
from .tokens import Tokens, step_tokens


@dataclass(kw_only=True)
class TS2VecConfig(EncoderConfig):
    """Config of ``TS2VecEncoder``; ``n_layers`` blocks ``d_hidden`` wide, then one to ``d_model``.

    The paper's are 10 blocks 64 wide, and a ``d_model`` of 320.
    """

    n_layers: int = 10
    d_hidden: int = 64
    pooling: PoolingName = "max"
    refused_poolings: ClassVar[dict[str, str]] = {"cls": "a convolutional encoder has no CLS token"}

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.d_hidden >= 1, f"d_hidden must be at least 1, got {self.d_hidden}")


@register_encoder("ts2vec", TS2VecConfig)
class TS2VecEncoder(TokenEncoder):
    """The encoder of TS2Vec (Yue et al., "Towards universal representation of time series", 2022).

    Section 3.2: a linear map of each step, then residual blocks of two dilated convolutions, each after a
    GELU, that look ahead as far as back; the dilation doubles from block to block. A stay's embedding is the
    maximum over its steps. Departures: it is told times and gaps (``clocked_features``); padding is left out,
    and stays 0 in every block; the masks that the paper lays on the projected steps belong to its objective.

    >>> import torch
    >>> encoder = TS2VecEncoder(TS2VecConfig(d_input=5, d_model=16))
    >>> encoder(torch.randn(2, 7, 5)).shape
    torch.Size([2, 16])
    """

    config: TS2VecConfig

    def __init__(self, config: TS2VecConfig) -> None:
        super().__init__(config)
        widths = [config.d_hidden] * (config.n_layers + 1) + [config.d_model]
        self.project = nn.Linear(4 * self.d_input + 2, config.d_hidden)
        self.blocks = nn.ModuleList(
            ConvBlock(widths[i], widths[i + 1], 2**i, final=i == config.n_layers)
            for i in range(config.n_layers + 1)
        )
        self.dropout = Dropout(config.dropout)

    @property
    def layer_patterns(self) -> tuple[tuple[str, ...], ...]:
        """The map of steps, then block by block."""
        return (("project.*",), *((f"blocks.{i}.*",) for i in range(len(self.blocks))))

    def encode_stay(self, stay: StayInputs) -> Tokens:
        """One token a step."""
        row, place = real_steps_first(stay)
        real = row.padding_mask.unsqueeze(-1)
        steps = self.project(clocked_features(row))
        for block in self.blocks:
            steps = block(steps, real)
        return step_tokens(take(self.dropout(steps), place), stay)


class ConvBlock(nn.Module):
    """Two convolutions of a dilation, added to what came in, mapped if the width changes or at the end."""

    def __init__(self, c_in: int, c_out: int, dilation: int, *, final: bool) -> None:
        super().__init__()
        self.first = DilatedConv(c_in, c_out, 3, dilation, causal=False)
        self.second = DilatedConv(c_out, c_out, 3, dilation, causal=False)
        self.skip = nn.Linear(c_in, c_out) if final or c_in != c_out else nn.Identity()

    def forward(self, steps: Float[Tensor, "B T C"], real: Bool[Tensor, "B T 1"]) -> Float[Tensor, "B T H"]:
        inner = self.first(F.gelu(steps) * real)
        inner = self.second(F.gelu(inner) * real)
        out: Tensor = inner + self.skip(steps)
        return out
