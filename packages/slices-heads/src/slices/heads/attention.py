"""A head that attends to the steps of a stay. Letters: B stays, T time steps, H embedding width."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .config import TaskHeadConfig
from .heads import MLPHead


def attention_pool(
    embedding: Float[Tensor, "B T H"], score: Float[Tensor, "B T"], valid: Bool[Tensor, "B T"] | None = None
) -> tuple[Float[Tensor, "B H"], Float[Tensor, "B T"]]:
    """The mean of the steps weighted by the softmax of their scores, and the weights.

    What is not valid weighs nothing; a stay without any valid step gives zeros.

    >>> steps, score = torch.tensor([[[1.0], [3.0], [100.0]]]), torch.zeros(1, 3)
    >>> attention_pool(steps, score, torch.tensor([[True, True, False]]))
    (tensor([[2.]]), tensor([[0.5000, 0.5000, 0.0000]]))
    """
    score = score.float()
    if valid is None:
        weight = score.softmax(-1)
    else:
        weight = score.masked_fill(~valid, torch.finfo(score.dtype).min).softmax(-1) * valid
    return torch.einsum("bt,bth->bh", weight.to(embedding.dtype), embedding), weight


class GatedScore(nn.Module):
    """``w . (tanh(V h) * sigmoid(U h))`` for each step, V and U as wide as the embedding.

    Ilse et al., "Attention-based deep multiple instance learning" (2018), equation 9: w is the learned query.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.content = nn.Linear(width, width)
        self.gate = nn.Linear(width, width)
        self.query = nn.Linear(width, 1, bias=False)

    def forward(self, embedding: Float[Tensor, "B T H"]) -> Float[Tensor, "B T"]:
        seen = torch.tanh(self.content(embedding)) * torch.sigmoid(self.gate(embedding))
        score: Tensor = self.query(seen).squeeze(-1)
        return score


class AttentionHead(MLPHead):
    """Pools ``(B, T, H)`` by learned attention, then goes on as ``mlp`` (``hidden_dims=()``: linear).

    One prediction a stay. Its outputs also hold the weights of the steps, ``attention (B, T)``.

    >>> head = AttentionHead(TaskHeadConfig(name="attention", input_dim=8))
    >>> {name: tuple(value.shape) for name, value in head(torch.randn(2, 5, 8)).items()}
    {'logits': (2, 2), 'probs': (2, 2), 'attention': (2, 5)}
    """

    pools_steps: ClassVar[bool] = True

    def __init__(self, config: TaskHeadConfig) -> None:
        super().__init__(config)
        self.score = GatedScore(self.input_dim)

    def forward(
        self, embedding: Float[Tensor, "B T H"], valid: Bool[Tensor, "B T"] | None = None
    ) -> dict[str, Tensor]:
        """``{"logits", "probs", "attention"}`` of steps, of which those that are not ``valid`` do not count.

        Raises ``ValueError`` for an embedding that is pooled already.
        """
        if embedding.ndim != 3:
            raise ValueError(
                f"embedding {tuple(embedding.shape)}: an attention head pools steps (B, T, H); "
                "use an encoder with pooling=none, or head mlp"
            )
        if valid is not None:  # whatever they hold, also in the gradient
            embedding = torch.where(valid.unsqueeze(-1), embedding, 0)
        pooled, attention = attention_pool(embedding, self.score(embedding), valid)
        return {**super().forward(pooled), "attention": attention}
