"""What an encoder knows of a batch of stays before pooling."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .inputs import StayInputs

STEP = -1
"""``Tokens.variable`` of a token that stands for a whole time step."""
STAY = -2
"""``Tokens.variable`` of a token that stands for the whole stay."""


class Tokens(NamedTuple):
    """One embedding for each thing an encoder tells apart: a step, a variable at a time, a stay.

    Attributes:
        embedding: exactly 0 where not valid.
        valid: a real token, not padding and not hidden.
        time: hours since admission; of no meaning where ``variable`` is ``STAY``.
        variable: the variable's column, ``STEP`` (-1) for a whole step, ``STAY`` (-2) for the whole
            stay (a CLS token, or the one token of an encoder that only gives a pooled embedding).
    """

    embedding: Float[Tensor, "B N H"]
    valid: Bool[Tensor, "B N"]
    time: Float[Tensor, "B N"]
    variable: Int[Tensor, "B N"]


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
