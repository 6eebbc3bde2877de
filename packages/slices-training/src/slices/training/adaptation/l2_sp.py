"""A pull back to the weights that training began from."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class StartingPoint(nn.Module):
    """L2-SP of Li, Grandvalet & Davoine, "Explicit inductive bias for transfer learning" (2018), equation 2.

    ``forward(module)`` is half the squared distance of a module's weights to those it had, summed. The head,
    which has no pretrained weights, has the optimizer's weight decay (their ``beta``). The weights of then
    are buffers, so that a checkpoint holds them and a resumed run is pulled to the same place.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> start = StartingPoint(layer)
    >>> with torch.no_grad():
    ...     _ = layer.weight.add_(3.0)
    >>> start(layer).item()
    4.5
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        for i, parameter in enumerate(module.parameters()):
            self.register_buffer(f"of_{i}", parameter.detach().clone())

    def forward(self, module: nn.Module) -> Float[Tensor, ""]:
        """The penalty before its strength."""
        now = list(module.parameters())
        distance = torch.stack(
            [(p - w).float().square().sum() for p, w in zip(now, self.buffers(), strict=True)]
        )
        return distance.sum() / 2
