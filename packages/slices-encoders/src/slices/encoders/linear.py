"""The simplest encoder: a linear map of each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from .base import SeparableEncoder, register_encoder
from .config import EncoderConfig, require
from .inputs import StayInputs, step_features
from .layers import Dropout, TimeEmbedding
from .tokens import Tokens, step_tokens


@dataclass(kw_only=True)
class LinearConfig(EncoderConfig):
    """Config of ``LinearEncoder``; ``n_layers`` is 1 and stays so."""

    n_layers: int = 1
    refused_poolings: ClassVar[dict[str, str]] = {"cls": "the linear encoder has no CLS token"}

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.n_layers == 1, f"n_layers of the linear encoder must be 1, got {self.n_layers}")


@register_encoder("linear", LinearConfig)
class LinearEncoder(SeparableEncoder):
    """A linear map of each step's ``step_features``, plus its time; causal.

    >>> import torch
    >>> encoder = LinearEncoder(LinearConfig(d_input=5, d_model=16))
    >>> encoder(torch.randn(2, 7, 5)).shape
    torch.Size([2, 16])
    """

    def __init__(self, config: LinearConfig) -> None:
        super().__init__(config)
        self.embed = nn.Linear(4 * self.d_input, config.d_model)
        self.embed_time = TimeEmbedding(config.d_model)
        self.dropout = Dropout(config.dropout)

    @property
    def causal(self) -> bool:
        """Always."""
        return True

    def tokenize_stay(self, stay: StayInputs) -> Tokens:
        """One token a step, N = T."""
        return step_tokens(self.embed(step_features(stay)) + self.embed_time(stay.times), stay)

    def encode_tokens(self, tokens: Tokens) -> Tokens:
        """The tokens as they are: steps know nothing of each other."""
        return tokens._replace(embedding=self.dropout(tokens.embedding))
