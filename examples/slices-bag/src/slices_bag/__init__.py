"""A bag of observations as an encoder: their mean, through a small net, whenever they were made."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from slices.encoders import BaseEncoder, EncoderConfig, register_encoder


@dataclass(kw_only=True)
class BagConfig(EncoderConfig):
    """Config of ``BagEncoder``."""

    hidden_size: int = 64


@register_encoder("bag", BagConfig)
class BagEncoder(BaseEncoder):
    """What was observed, averaged for each variable, and which variables were."""

    def __init__(self, config: BagConfig) -> None:
        super().__init__(config)
        self.net = nn.Sequential(
            nn.Linear(2 * self.d_input, config.hidden_size),
            nn.GELU(),
            nn.Linear(config.hidden_size, config.d_model),
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # type: ignore[override]
        seen = torch.ones_like(x, dtype=torch.bool) if mask is None else mask
        count = seen.sum(1)
        mean = torch.where(seen, x, 0.0).sum(1) / count.clamp(min=1)
        out: Tensor = self.net(torch.cat((mean, (count > 0).to(x.dtype)), dim=-1))
        return out
