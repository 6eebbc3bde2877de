"""What an encoder knows of a batch of stays before pooling."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .inputs import StayInputs

STEP = -1
"""``Tokens.variable`` of a token that stands for all variables at a time: a step, or a bin of several."""
STAY = -2
"""``Tokens.variable`` of a token that stands for the whole stay."""


class Tokens(NamedTuple):
    """One embedding for each thing an encoder tells apart: a step, a variable at a time, a stay.

    Attributes:
        embedding: exactly 0 where not valid.
        valid: a real token, not padding and not hidden.
        time: hours since admission; of no meaning where ``variable`` is ``STAY``.
        variable: the variable's column, ``STEP`` (-1) for all variables at a time, ``STAY`` (-2) for the
            whole stay (a CLS token, or the one token of an encoder that only gives a pooled embedding).
    """

    embedding: Float[Tensor, "B N H"]
    valid: Bool[Tensor, "B N"]
    time: Float[Tensor, "B N"]
    variable: Int[Tensor, "B N"]

    def embedded(self, embedding: Float[Tensor, "B N H"]) -> Tokens:
        """The same tokens with other embeddings, 0 where not valid."""
        return self._replace(embedding=embedding.masked_fill(~self.valid.unsqueeze(-1), 0.0))


def step_tokens(embedding: Float[Tensor, "B T H"], stay: StayInputs) -> Tokens:
    """One token a time step, 0 where the step is padding."""
    valid = stay.padding_mask
    embedding = embedding.masked_fill(~valid.unsqueeze(-1), 0.0)
    return Tokens(embedding, valid, stay.times, torch.full_like(valid, STEP, dtype=torch.int64))


def stay_token(embedding: Float[Tensor, "B H"], stay: StayInputs) -> Tokens:
    """One token for the whole stay, 0 where the stay has no real step."""
    valid = stay.padding_mask.any(1, keepdim=True)
    embedding = embedding.unsqueeze(1).masked_fill(~valid.unsqueeze(-1), 0.0)
    time = torch.zeros_like(stay.times[:, :1])
    return Tokens(embedding, valid, time, torch.full_like(valid, STAY, dtype=torch.int64))


def joined(first: Tokens, others: Tokens) -> Tokens:
    """The tokens of one, then those of the other."""
    return Tokens(*(torch.cat(pair, dim=1) for pair in zip(first, others, strict=True)))


def latest_tokens(
    tokens: Tokens, times: Float[Tensor, "B T"], real: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T H"]:
    """One embedding a step of tokens that are no steps: the mean of the latest ones up to its time.

    0 at padding, and where no token has come yet. Tokens of the whole stay do not count.

    >>> tokens = Tokens(torch.tensor([[[1.0], [3.0], [5.0]]]), torch.ones(1, 3, dtype=torch.bool),
    ...                 torch.tensor([[1.0, 1.0, 7.0]]), torch.tensor([[0, 1, 0]]))
    >>> times = torch.tensor([[0.0, 1.0, 2.0, 9.0]])
    >>> latest_tokens(tokens, times, torch.ones(1, 4, dtype=torch.bool)).flatten().tolist()
    [0.0, 2.0, 2.0, 5.0]
    """
    counts = tokens.valid & (tokens.variable != STAY)
    come = counts.unsqueeze(1) & (tokens.time.unsqueeze(1) <= times.unsqueeze(2))  # (B, T, N)
    latest = torch.where(come, tokens.time.unsqueeze(1), -torch.inf).amax(-1, keepdim=True)
    chosen = (come & (tokens.time.unsqueeze(1) == latest) & real.unsqueeze(2)).to(tokens.embedding.dtype)
    return (chosen @ tokens.embedding) / chosen.sum(-1, keepdim=True).clamp(min=1)
