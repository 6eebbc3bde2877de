"""Pre-norm transformer blocks over tokens, some of which are not there."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ..config import AttentionConfig
from .dropout import Dropout


def attention_mask(
    valid: Bool[Tensor, "B N"], time: Float[Tensor, "B N"], causal: bool
) -> Bool[Tensor, "B 1 ..."]:
    """Which token may look at which: ``(B, 1, 1, N)``, or ``(B, 1, N, N)`` if causal.

    Valid tokens are seen; if causal, only by later tokens: those of the same time look at each other in
    their order, as two steps may share a time. No row is empty, so that no softmax is: where nothing may
    be seen, a token sees itself (or a stay, everything).
    """
    if not causal:
        return (valid | ~valid.any(1, keepdim=True))[:, None, None, :]
    rank = torch.arange(valid.shape[1], device=valid.device)
    itself, before = rank == rank.unsqueeze(-1), rank < rank.unsqueeze(-1)
    theirs, own = time.unsqueeze(1), time.unsqueeze(2)
    earlier = (theirs < own) | (theirs == own) & before
    return ((earlier & valid.unsqueeze(1)) | itself).unsqueeze(1)


def in_heads(qkv: Float[Tensor, "B N H3"], n_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, ``(B, J, N, h)`` each for J heads, of all three side by side."""
    q, k, v = (torch.unflatten(part, -1, (n_heads, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=-1))
    return q, k, v


class TransformerBlock(nn.Module):
    """Self-attention and a feed-forward net, each normalised before and added to what came in.

    Vaswani et al. 2017, with the pre-norm order of Xiong et al. 2020 and GELU (Hendrycks & Gimpel
    2016). Dropout falls on what the two branches add; the attention weights are left whole, which
    keeps the fused kernels usable in training.

    Args:
        d_heads: width of all heads together; None: ``d_model``.
    """

    def __init__(
        self, d_model: int, n_heads: int, d_ff: int, dropout: float, *, d_heads: int | None = None
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        d_heads = d_heads or d_model
        self.attention_norm = nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_heads)
        self.out = nn.Linear(d_heads, d_model)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(d_model), nn.Linear(d_model, d_ff), nn.GELU(), nn.Linear(d_ff, d_model)
        )
        self.dropout = Dropout(dropout)

    def forward(
        self,
        tokens: Float[Tensor, "B N H"],
        mask: Bool[Tensor, "B 1 ..."] | None = None,
        rows: Int[Tensor, "R"] | None = None,
    ) -> Float[Tensor, "B N H"]:
        """The same tokens, having looked at each other.

        Args:
            mask: see ``attention_mask``; without one every token looks at all.
            rows: of the B, those to compute; the others stay as they are.
        """
        if rows is not None:
            mask = None if mask is None else mask.index_select(0, rows)
            return tokens.index_copy(0, rows, self.forward(tokens.index_select(0, rows), mask))
        tokens = tokens + self.dropout(self.attend(self.attention_norm(tokens), mask))
        added: Tensor = self.dropout(self.feedforward(tokens))
        return tokens + added

    def attend(
        self, tokens: Float[Tensor, "B N H"], mask: Bool[Tensor, "B 1 ..."] | None = None
    ) -> Float[Tensor, "B N H"]:
        """Multi-head self-attention (Vaswani et al. 2017, eq. 1)."""
        q, k, v = self._heads(tokens)
        seen = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        mixed: Tensor = self.out(seen.transpose(1, 2).flatten(-2))
        return mixed

    def attention(
        self,
        tokens: Float[Tensor, "B N H"],
        mask: Bool[Tensor, "B 1 ..."] | None = None,
        rows: Int[Tensor, "R"] | None = None,
    ) -> Float[Tensor, "B J N N"]:
        """The weights of its J heads, given what ``forward`` is given; of all B."""
        q, k, _ = self._heads(self.attention_norm(tokens))
        score = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        score = score if mask is None else score.masked_fill(~mask, -torch.inf)
        return torch.softmax(score, dim=-1)

    def _heads(self, tokens: Float[Tensor, "B N H"]) -> tuple[Tensor, Tensor, Tensor]:
        return in_heads(self.qkv(tokens), self.n_heads)


class TransformerBlocks(nn.ModuleList):
    """The blocks of a config, one after the other."""

    def __init__(self, config: AttentionConfig) -> None:
        width, d_ff = config.d_model, config.d_ff or 4 * config.d_model
        super().__init__(
            TransformerBlock(width, config.n_heads, d_ff, config.dropout) for _ in range(config.n_layers)
        )

    def forward(
        self,
        tokens: Float[Tensor, "B N H"],
        mask: Bool[Tensor, "B 1 ..."] | None = None,
        rows: Int[Tensor, "R"] | None = None,
    ) -> Float[Tensor, "B N H"]:
        """See ``TransformerBlock.forward``."""
        for block in self:
            tokens = block(tokens, mask, rows)
        return tokens
