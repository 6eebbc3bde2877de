"""Convolutions over time. Letters: C channels in, H channels out."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class DilatedConv(nn.Module):
    """A convolution over steps ``(B, T, C)``, ``dilation`` steps between what it looks at; as many come out.

    Args:
        causal: it looks at a step and those before it; otherwise as far back as ahead.
        weight_norm: its weight is a direction times a length, for each channel (Salimans & Kingma 2016).
        depthwise: each channel by itself.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        dilation: int,
        *,
        causal: bool,
        weight_norm: bool = False,
        depthwise: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(c_in, c_out, kernel, dilation=dilation, groups=c_in if depthwise else 1)
        reach = (kernel - 1) * dilation
        self.padding = (reach, 0) if causal else (reach // 2, reach - reach // 2)
        self.length = nn.Parameter(_length(self.conv.weight).detach()) if weight_norm else None

    def forward(self, steps: Float[Tensor, "B T C"]) -> Float[Tensor, "B T H"]:
        weight = self.conv.weight
        if self.length is not None:
            weight = weight * (self.length / _length(weight))
        padded = F.pad(steps.transpose(1, 2), self.padding)
        conv = self.conv
        out = F.conv1d(padded, weight, conv.bias, dilation=conv.dilation, groups=conv.groups)
        return out.transpose(1, 2)


def _length(weight: Tensor) -> Tensor:
    """Of each channel that comes out, (H, 1, 1)."""
    length: Tensor = torch.linalg.vector_norm(weight, dim=(1, 2), keepdim=True)
    return length
