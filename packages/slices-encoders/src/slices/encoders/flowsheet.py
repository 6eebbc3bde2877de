"""Our own: the flow sheet of a stay, read by its rows, the variables, and by its columns, the times.

Letters: K bins, F features of a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from .base import SeparableEncoder, register_encoder
from .config import AttentionConfig, require
from .inputs import StayInputs, real_steps_first, step_features
from .layers import (
    N_SUMMARIES,
    Bins,
    Dropout,
    TimeEmbedding,
    TransformerBlocks,
    attention_mask,
    bins_of_span,
    summaries,
)
from .tokens import STEP, Tokens, joined


@dataclass(kw_only=True)
class FlowsheetConfig(AttentionConfig):
    """Config of ``FlowsheetEncoder``.

    Attributes:
        n_bins: bins K, the columns, evenly over each stay's own span.
    """

    n_bins: int = 12
    refused_poolings: ClassVar[dict[str, str]] = {
        "cls": "rows and columns sum the stay up already",
        "last": "of variables and bins, none is the last",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.n_bins >= 1, f"n_bins must be at least 1, got {self.n_bins}")


@register_encoder("flowsheet", FlowsheetConfig)
class FlowsheetEncoder(SeparableEncoder):
    """A transformer over the rows and the columns of a stay's flow sheet, together.

    A row is a variable over the whole stay: in each bin its last value, whether there is one, and
    log(1 + count); and its ``summaries``. All rows go through one net, to which the variable's own embedding
    is added. A column is a bin: the ``step_features`` of all variables there, and its time. Every token then
    attends to all, so that variables and times meet in one attention over D + K tokens, whatever the number
    of steps. Statics are rows, and stand in every column.

    What it takes from elsewhere: bins over the stay's own span, with the last value and the count (DuETT,
    Labach 2023); tokens of variables that carry their whole series (iTransformer, Liu 2024).

    >>> encoder = FlowsheetEncoder(FlowsheetConfig(d_input=5, d_model=16))
    >>> encoder(torch.randn(2, 7, 5)).shape
    torch.Size([2, 16])
    """

    config: FlowsheetConfig

    def __init__(self, config: FlowsheetConfig) -> None:
        super().__init__(config)
        width = config.d_model
        self.embed_row = _net(3 * config.n_bins + N_SUMMARIES, width)
        self.embed_variable = nn.Embedding(self.d_input, width)
        self.embed_column = _net(4 * self.d_input, width)
        self.embed_time = TimeEmbedding(width)
        self.dropout = Dropout(config.dropout)
        self.blocks = TransformerBlocks(config)
        self.norm = nn.LayerNorm(width)

    @property
    def tokens_are_steps(self) -> bool:
        """They are variables and bins."""
        return False

    @property
    def layer_patterns(self) -> tuple[tuple[str, ...], ...]:
        """The embedding of rows and columns, then block by block."""
        return (("embed_*",), *((f"blocks.{i}.*",) for i in range(self.config.n_layers)))

    def tokenize_stay(self, stay: StayInputs) -> Tokens:
        """A token a variable, of the time the stay begins, and one a bin, of its beginning: N = D + K."""
        row, _ = real_steps_first(stay)
        bins = bins_of_span(row, self.config.n_bins)
        tokens = joined(self._rows(row, bins), self._columns(row, bins))
        return tokens.embedded(tokens.embedding)

    def encode_tokens(self, tokens: Tokens) -> Tokens:
        """Every row and column, having attended to all."""
        mask = attention_mask(tokens.valid, tokens.time, causal=False)
        return tokens.embedded(self.norm(self.blocks(self.dropout(tokens.embedding), mask)))

    def _rows(self, row: StayInputs, bins: Bins) -> Tokens:
        cells = (bins.value, bins.mask.to(row.x.dtype), torch.log1p(bins.counts))
        features = torch.cat([*(part.mT for part in cells), summaries(row)], dim=-1)  # (B, D, F)
        valid = row.mask.any(1)
        embedding = self.embed_row(features) + self.embed_variable.weight
        variable = torch.arange(self.d_input, device=valid.device).expand(valid.shape)
        return Tokens(embedding, valid, bins.start[:, :1].expand(valid.shape), variable)

    def _columns(self, row: StayInputs, bins: Bins) -> Tokens:
        steps = row._replace(
            x=bins.value, mask=bins.mask, counts=bins.counts, padding_mask=bins.real, times=bins.end
        )
        embedding = self.embed_column(step_features(steps)) + self.embed_time(bins.end)
        variable = torch.full_like(bins.real, STEP, dtype=torch.int64)
        return Tokens(embedding, bins.real, bins.start, variable)


def _net(c_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(c_in, width), nn.GELU(), nn.Linear(width, width))
