"""A transformer over time steps that knows what was observed, and when."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .base import SeparableEncoder, register_encoder
from .config import AttentionConfig, require
from .inputs import StayInputs, step_features
from .layers import TimeEmbedding, TransformerBlocks, attention_mask
from .tokens import Tokens, joined, stay_token, step_tokens


@dataclass(kw_only=True)
class TransformerConfig(AttentionConfig):
    """Config of ``TransformerEncoder``.

    Attributes:
        causal: a step attends only to itself and earlier ones, also where they share a time.
    """

    causal: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not (self.causal and self.pooling == "cls"),
            "pooling 'cls' is not offered with causal=True: a CLS token sees the whole stay; use 'last'",
        )


@register_encoder("transformer", TransformerConfig)
class TransformerEncoder(SeparableEncoder):
    """Pre-norm transformer with one token a time step (Vaswani et al. 2017; Xiong et al. 2020).

    A step's token is made of ``step_features``, the statics among them, and its time; there are no
    positions but times. With pooling "cls" a learned token (``variable == STAY``) comes first.

    >>> encoder = TransformerEncoder(TransformerConfig(d_input=5, d_model=16, pooling="none"))
    >>> encoder(torch.randn(2, 7, 5)).shape
    torch.Size([2, 7, 16])
    """

    config: TransformerConfig

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        width = config.d_model
        self.embed = nn.Sequential(nn.Linear(4 * self.d_input, width), nn.GELU(), nn.Linear(width, width))
        self.embed_time = TimeEmbedding(width)
        self.blocks = TransformerBlocks(config)
        self.norm = nn.LayerNorm(width)
        if config.pooling == "cls":
            self.cls = nn.Parameter(torch.randn(width))

    @property
    def layer_patterns(self) -> tuple[tuple[str, ...], ...]:
        """The embedding of steps, then block by block."""
        return (("embed*", "cls"), *((f"blocks.{i}.*",) for i in range(self.config.n_layers)))

    @property
    def causal(self) -> bool:
        """As configured."""
        return self.config.causal

    def tokenize_stay(self, stay: StayInputs) -> Tokens:
        """One token a step, N = T; a CLS token before them with pooling "cls", N = T + 1."""
        steps = step_tokens(self.embed(step_features(stay)) + self.embed_time(stay.times), stay)
        return self._with_cls(steps, stay) if self.config.pooling == "cls" else steps

    def encode_tokens(self, tokens: Tokens) -> Tokens:
        """Every valid token, having attended to the valid ones (if causal, to itself and those before)."""
        mask = attention_mask(tokens.valid, tokens.time, self.causal)
        return tokens.embedded(self.norm(self.blocks(tokens.embedding, mask)))

    def _with_cls(self, steps: Tokens, stay: StayInputs) -> Tokens:
        embedding = self.cls.to(steps.embedding.dtype).expand(stay.x.shape[0], -1)
        cls = stay_token(embedding, stay)
        return joined(cls, steps)
