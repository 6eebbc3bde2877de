"""A light decoder that asks a stay's tokens what is at a (time, variable).

Letters: B stays, N tokens, Q queries, H embedding width, W decoder width, O outputs.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from .encoding import STAY, Tokens


class PlaceEmbedding(nn.Module):
    """Embeds (time, variable): sines and cosines of hours at geometric periods, and a row per variable.

    Continuous time as in the positional encoding of Vaswani et al. (2017, section 3.5), with periods
    from a quarter of an hour to eight weeks. A whole stay has no time.
    """

    periods: Tensor

    def __init__(self, width: int, n_variables: int, n_periods: int = 16) -> None:
        super().__init__()
        periods = torch.logspace(math.log2(0.25), math.log2(1344.0), n_periods, base=2.0)
        self.register_buffer("periods", periods, persistent=False)
        self.time = nn.Linear(2 * n_periods, width)
        self.variable = nn.Embedding(n_variables - STAY, width)
        nn.init.normal_(self.variable.weight, std=0.02)

    def forward(self, time: Float[Tensor, "B N"], variable: Int[Tensor, "B N"]) -> Float[Tensor, "B N W"]:
        time = time.float().masked_fill(variable == STAY, 0.0)
        angle = time.unsqueeze(-1) * (2 * math.pi / self.periods.float())
        waves = torch.cat([angle.sin(), angle.cos()], dim=-1).to(self.time.weight.dtype)
        return self.time(waves) + self.variable(variable - STAY)  # type: ignore[no-any-return]


class CrossAttentionBlock(nn.Module):
    """Pre-norm attention from queries to memory, then an MLP; queries do not see each other."""

    def __init__(self, width: int, n_heads: int, expansion: int = 2) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, expansion * width),
            nn.GELU(),
            nn.Linear(expansion * width, width),
        )

    def forward(
        self, queries: Float[Tensor, "B Q W"], memory: Float[Tensor, "B N W"], attend: Tensor
    ) -> Float[Tensor, "B Q W"]:
        heads = (self.n_heads, -1)
        query = self.query(self.query_norm(queries)).unflatten(-1, heads).transpose(1, 2)
        key, value = self.key_value(memory).chunk(2, dim=-1)
        key, value = (part.unflatten(-1, heads).transpose(1, 2) for part in (key, value))
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=attend)
        queries = queries + self.out(found.transpose(1, 2).flatten(2))
        return queries + self.mlp(queries)  # type: ignore[no-any-return]


class CrossAttentionDecoder(nn.Module):
    """Answers queries at (time, variable) from the tokens that an encoder made of the visible part.

    Queries attend to tokens only, so that the cost is linear in their number (CrossMAE: Fu et al.,
    2024, "Rethinking Patch Dependence for Masked Autoencoders", section 3.2). Any tokens will do: one
    a step, one an observation, one a stay.

    Args:
        input_dim: H, the width of the tokens.
        output_dim: O, the numbers to answer each query with.
        n_variables: D, for which a token or a query may stand besides a whole step and a whole stay.

    >>> decoder = CrossAttentionDecoder(input_dim=8, output_dim=3, n_variables=5, width=16, n_heads=2)
    >>> tokens = Tokens(
    ...     torch.randn(2, 4, 8), torch.ones(2, 4, dtype=torch.bool),
    ...     torch.rand(2, 4), torch.full((2, 4), -1),
    ... )
    >>> decoder(tokens, torch.rand(2, 6), torch.full((2, 6), -1)).shape
    torch.Size([2, 6, 3])
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        n_variables: int,
        width: int = 64,
        n_layers: int = 1,
        n_heads: int = 4,
    ) -> None:
        super().__init__()
        self.place = PlaceEmbedding(width, n_variables)
        self.memory = nn.Linear(input_dim, width)
        self.memory_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(CrossAttentionBlock(width, n_heads) for _ in range(n_layers))
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, output_dim))

    def forward(
        self, tokens: Tokens, time: Float[Tensor, "B Q"], variable: Int[Tensor, "B Q"]
    ) -> Float[Tensor, "B Q O"]:
        memory = self.memory_norm(self.memory(tokens.embedding) + self.place(tokens.time, tokens.variable))
        # Attention over nothing is undefined: a stay with no token at all looks at all its empty ones.
        attend = (tokens.valid | ~tokens.valid.any(-1, keepdim=True))[:, None, None, :]
        queries = self.place(time, variable)
        for block in self.blocks:
            queries = block(queries, memory, attend)
        return self.out(queries)  # type: ignore[no-any-return]
