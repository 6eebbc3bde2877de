"""Dropout whose random numbers cost a processor little."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DRAWN = 4  # numbers of 16 bits in one of 64, which is what torch draws at once
LEVELS = 2**16


class Dropout(nn.Dropout):
    """``nn.Dropout`` (Srivastava et al. 2014), on a CPU from 16 random bits an element.

    That is about a third of what ``nn.Dropout`` costs there. The rate is the nearest of 65,536 steps, and
    what is kept is scaled by that one, so that means are left alone. On other devices and in compiled code
    it is ``nn.Dropout``.

    >>> Dropout(0.5).eval()(torch.ones(3)).tolist()
    [1.0, 1.0, 1.0]
    """

    def forward(self, input: Tensor) -> Tensor:
        dropped = round(self.p * LEVELS)
        if (
            not self.training
            or input.device.type != "cpu"
            or torch.compiler.is_compiling()
            or dropped in (0, LEVELS)
        ):
            return F.dropout(input, self.p, self.training)
        n = input.numel()
        drawn = torch.empty(-(-n // DRAWN), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        kept = drawn[:n].view(input.shape) >= dropped - LEVELS // 2
        return input * (kept.to(input.dtype) * (LEVELS / (LEVELS - dropped)))
