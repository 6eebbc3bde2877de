"""Recurrent encoders that are told what was observed, and how long ago."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from .base import TokenEncoder, register_encoder
from .config import EncoderConfig, PoolingName
from .inputs import StayInputs, clocked_features, real_steps_first, take
from .layers import Dropout
from .tokens import Tokens, step_tokens


@dataclass(kw_only=True)
class RNNConfig(EncoderConfig):
    """Config of ``GRUEncoder`` and ``LSTMEncoder``; the last state, which has seen all, is the embedding."""

    n_layers: int = 1
    pooling: PoolingName = "last"
    refused_poolings: ClassVar[dict[str, str]] = {"cls": "a recurrent encoder has no CLS token"}


class RNNEncoder(TokenEncoder):
    """A recurrent net over the real steps of a stay, in their order; causal.

    A step's input is ``clocked_features``, the statics among them. Padding is left out of the recurrence
    wherever it lies.
    """

    cell: ClassVar[type[nn.GRU] | type[nn.LSTM]]

    def __init__(self, config: RNNConfig) -> None:
        super().__init__(config)
        self.rnn = self.cell(
            4 * self.d_input + 2,
            config.d_model,
            num_layers=config.n_layers,
            batch_first=True,
            dropout=config.dropout if config.n_layers > 1 else 0.0,
        )
        self.dropout = Dropout(config.dropout)

    @property
    def layer_patterns(self) -> tuple[tuple[str, ...], ...]:
        """Layer by layer of the recurrent net."""
        return tuple((f"rnn.*_l{i}",) for i in range(self.config.n_layers))

    @property
    def causal(self) -> bool:
        """Always."""
        return True

    @property
    def static_length(self) -> str:
        """A recurrence is written out step by step."""
        return "recurrence"

    def encode_stay(self, stay: StayInputs) -> Tokens:
        """One token a step: the hidden state after it."""
        row, place = real_steps_first(stay)
        features = clocked_features(row)
        # In the precision of the weights: rounding would add up over hundreds of steps.
        with torch.autocast(features.device.type, enabled=False):
            hidden, _ = self.rnn(features.to(self.rnn.all_weights[0][0].dtype))
        return step_tokens(take(self.dropout(hidden), place), stay)


@register_encoder("gru", RNNConfig)
class GRUEncoder(RNNEncoder):
    """Gated recurrent units (Cho et al. 2014) on what is known at each step.

    >>> encoder = GRUEncoder(RNNConfig(d_input=5, d_model=16))
    >>> encoder(torch.randn(2, 7, 5)).shape
    torch.Size([2, 16])
    """

    cell = nn.GRU


@register_encoder("lstm", RNNConfig)
class LSTMEncoder(RNNEncoder):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) on what is known at each step.

    >>> encoder = LSTMEncoder(RNNConfig(d_input=5, d_model=16))
    >>> encoder(torch.randn(2, 7, 5)).shape
    torch.Size([2, 16])
    """

    cell = nn.LSTM
