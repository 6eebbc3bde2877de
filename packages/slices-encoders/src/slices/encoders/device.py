"""Where a number may be read off a tensor."""

from __future__ import annotations

import torch
from torch import Tensor


def reading_is_cheap(tensor: Tensor) -> bool:
    """May what it holds decide what is computed? A GPU would have to stop, and compiled code to break."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()
