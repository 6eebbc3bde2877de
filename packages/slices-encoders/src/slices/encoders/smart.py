"""MART, the encoder of SMART: a token for every variable at every step, missing ones too.

Letters: T' steps and the summary before them, J heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from .base import TokenEncoder, register_encoder
from .config import AttentionConfig, PoolingName
from .inputs import StayInputs, real_steps_first
from .layers import Dropout, TimeEmbedding, in_heads
from .tokens import Tokens, joined, stay_token


@dataclass(kw_only=True)
class SMARTConfig(AttentionConfig):
    """Config of ``SMARTEncoder``; the paper's are 2 layers, 32 wide, of 4 heads."""

    d_model: int = 32
    pooling: PoolingName = "cls"
    refused_poolings: ClassVar[dict[str, str]] = {"last": "several variables are at the last step"}


@register_encoder("smart", SMARTConfig)
class SMARTEncoder(TokenEncoder):
    """MART (Yu et al., "SMART: towards pre-trained missing-aware model for patient health status prediction",
    2024), section 4.1.

    Each cell is a token made of its value and whether that was observed; each variable has a learned summary
    before its steps. A block attends over time within a variable, more to what was observed (eq. 4), then
    over variables by their observed keys (eq. 5). With pooling "cls" the summaries of all variables together
    are mapped to one embedding; other poolings take the observed cells. Departures: tokens are placed by the
    hour and not by a count of steps; they are normalised once more at the end; that map belongs to the
    paper's head. Cost follows T x D.

    >>> encoder = SMARTEncoder(SMARTConfig(d_input=5, d_model=16))
    >>> encoder(torch.randn(2, 7, 5), torch.rand(2, 7, 5) < 0.3).shape
    torch.Size([2, 16])
    """

    blind_to: ClassVar[Mapping[str, str]] = {"counts": "the paper's inputs are values and masks"}
    config: SMARTConfig

    def __init__(self, config: SMARTConfig) -> None:
        super().__init__(config)
        width = config.d_model
        self.embed = nn.Sequential(nn.Linear(2, width), nn.Linear(width, width))
        self.embed_time = TimeEmbedding(width)
        self.summary = nn.Parameter(0.02 * torch.randn(self.d_input, width))
        self.blocks = nn.ModuleList(MARTBlock(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(width)
        if config.pooling == "cls":
            self.join = nn.Linear(self.d_input * width, width)

    @property
    def tokens_are_steps(self) -> bool:
        """They are variables at steps."""
        return False

    @property
    def layer_patterns(self) -> tuple[tuple[str, ...], ...]:
        """The embedding of cells, then block by block."""
        return (("embed*", "summary"), *((f"blocks.{i}.*",) for i in range(self.config.n_layers)))

    @property
    def static_length(self) -> str:
        """Variables are series of their own, and ``torch.export`` wants to know how long."""
        return "series of variables"

    def encode_stay(self, stay: StayInputs) -> Tokens:
        """One token an observed cell, N = T D; with pooling "cls" one of the whole stay before them."""
        row, _ = real_steps_first(stay)
        cells = torch.stack((row.x.mT, row.mask.to(row.x.dtype).mT), dim=-1)
        tokens = self.embed(cells) + self.embed_time(row.times).unsqueeze(1)
        summary = self.summary[:, None].expand(stay.x.shape[0], -1, -1, -1).to(tokens.dtype)
        tokens = torch.cat((summary, tokens), dim=2).contiguous()  # (B, D, T', H)
        observed = F.pad(row.mask.mT, (1, 0), value=True).contiguous()
        real = F.pad(row.padding_mask, (1, 0), value=True)
        for block in self.blocks:
            tokens = block(tokens, observed, real)
        tokens = self.norm(tokens)
        valid = row.mask.transpose(1, 2)
        time = row.times.unsqueeze(1).expand(valid.shape)
        variable = torch.arange(self.d_input, device=stay.x.device)[:, None].expand(valid.shape)
        embedding = tokens[:, :, 1:].masked_fill(~valid.unsqueeze(-1), 0.0)
        flat = Tokens(*(field.flatten(1, 2) for field in (embedding, valid, time, variable)))
        if self.config.pooling != "cls":
            return flat
        return joined(stay_token(self.join(tokens[:, :, 0].flatten(1)), row), flat)


class MARTBlock(nn.Module):
    """Attention over time, attention over variables, a feed-forward net; each normalised before and added."""

    def __init__(self, config: SMARTConfig) -> None:
        super().__init__()
        width, self.n_heads = config.d_model, config.n_heads
        self.time_norm, self.variable_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.time_qkv = nn.Linear(width, 3 * width, bias=False)
        self.time_out = nn.Linear(width, width)
        self.variable_qk = nn.Linear(width, 2 * width, bias=False)
        self.variable_v = nn.Linear(width, width, bias=False)
        self.variable_out = nn.Linear(width, width)
        d_ff = config.d_ff or 4 * width
        self.feedforward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, d_ff), nn.GELU(), nn.Linear(d_ff, width)
        )
        self.dropout = Dropout(config.dropout)

    def forward(
        self, tokens: Float[Tensor, "B D S H"], observed: Bool[Tensor, "B D S"], real: Bool[Tensor, "B S"]
    ) -> Float[Tensor, "B D S H"]:
        """``observed`` and ``real``: of the steps S, the summary among them."""
        tokens = tokens + self.dropout(self.over_time(self.time_norm(tokens), observed, real))
        tokens = tokens + self.dropout(self.over_variables(self.variable_norm(tokens), observed))
        added: Tensor = self.dropout(self.feedforward(tokens))
        return tokens + added

    def over_time(
        self, tokens: Float[Tensor, "B D S H"], observed: Bool[Tensor, "B D S"], real: Bool[Tensor, "B S"]
    ) -> Float[Tensor, "B D S H"]:
        """Eq. 4: the score of two steps is greater by one for each of them that was observed."""
        q, k, v = self._time_heads(tokens)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=_bias(observed, real).to(q.dtype))
        mixed: Tensor = self.time_out(seen.transpose(1, 2).flatten(-2)).reshape(tokens.shape)
        return mixed

    def over_variables(
        self, tokens: Float[Tensor, "B D S H"], observed: Bool[Tensor, "B D S"]
    ) -> Float[Tensor, "B D S H"]:
        """Eq. 5: a variable asks with its summary, and answers with the mean of its observed keys.

        The same weights then mix the values of all steps.
        """
        values = self.variable_v(tokens).unflatten(-1, (self.n_heads, -1)).permute(0, 3, 1, 2, 4)
        seen = self._variable_weights(tokens, observed) @ values.flatten(-2)
        seen = seen.reshape(values.shape).permute(0, 2, 3, 1, 4).flatten(-2)  # heads side by side
        mixed: Tensor = self.variable_out(seen)
        return mixed

    def attention(
        self, tokens: Float[Tensor, "B D S H"], observed: Bool[Tensor, "B D S"], real: Bool[Tensor, "B S"]
    ) -> dict[str, Tensor]:
        """The weights over ``time`` (B, D, J, S, S), and over ``variables`` (B, J, D, D), of J heads."""
        normed = self.time_norm(tokens)
        q, k, _ = self._time_heads(normed)
        score = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + _bias(observed, real)
        over_time = score.softmax(-1).reshape(*tokens.shape[:2], *score.shape[1:])
        tokens = tokens + self.over_time(normed, observed, real)
        variables = self._variable_weights(self.variable_norm(tokens), observed)
        return {"time": over_time, "variables": variables}

    def _time_heads(self, tokens: Float[Tensor, "B D S H"]) -> tuple[Tensor, Tensor, Tensor]:
        """``(BD, J, S, h)``, each variable of each stay a series: the fused kernels take four axes."""
        return in_heads(self.time_qkv(tokens.flatten(0, 1)), self.n_heads)

    def _variable_weights(
        self, tokens: Float[Tensor, "B D S H"], observed: Bool[Tensor, "B D S"]
    ) -> Float[Tensor, "B J D D"]:
        query, key = self.variable_qk(tokens).chunk(2, dim=-1)
        weight = observed.to(key.dtype).unsqueeze(-1)
        key = (key * weight).sum(2) / weight.sum(2)  # of the summary at least
        q, k = (t.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for t in (query[:, :, 0], key))
        return torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1)


def _bias(observed: Bool[Tensor, "B D S"], real: Bool[Tensor, "B S"]) -> Float[Tensor, "BD 1 1 S"]:
    """Of the asked step; that of the asking one is the same for all it asks, and falls out of the softmax."""
    padded = ~real.repeat_interleave(observed.shape[1], dim=0)
    return observed.flatten(0, 1).float().masked_fill(padded, -torch.inf)[:, None, None]
