"""A linear layer, and a small network. Letters: H embedding width."""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from .base import BaseTaskHead
from .config import TaskHeadConfig


class LinearHead(BaseTaskHead):
    """Dropout and one linear layer: on a frozen encoder this is the linear probe.

    Alain & Bengio, "Understanding intermediate layers using linear classifier probes" (2016).
    Reads ``dropout``; ``hidden_dims`` means nothing to it.
    """

    def __init__(self, config: TaskHeadConfig) -> None:
        super().__init__(config)
        self.layers = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(self.input_dim, self.output_dim))

    def forward(self, embedding: Float[Tensor, "*batch H"]) -> dict[str, Tensor]:
        """``{"logits", "probs"}`` of embeddings ``(..., H)``."""
        return self.outputs(self.layers(embedding))


class MLPHead(BaseTaskHead):
    """Hidden layers of the widths ``hidden_dims``, each with GELU and dropout, and a linear one.

    GELU: Hendrycks & Gimpel, "Gaussian error linear units" (2016).
    """

    def __init__(self, config: TaskHeadConfig) -> None:
        super().__init__(config)
        widths = (self.input_dim, *config.hidden_dims)
        blocks = [hidden_block(before, after, config.dropout) for before, after in pairwise(widths)]
        self.layers = nn.Sequential(*blocks, nn.Linear(widths[-1], self.output_dim))

    def forward(self, embedding: Float[Tensor, "*batch H"]) -> dict[str, Tensor]:
        """``{"logits", "probs"}`` of embeddings ``(..., H)``."""
        return self.outputs(self.layers(embedding))


def hidden_block(before: int, after: int, dropout: float) -> nn.Module:
    """One hidden layer: linear, GELU, dropout."""
    return nn.Sequential(nn.Linear(before, after), nn.GELU(), nn.Dropout(dropout))
