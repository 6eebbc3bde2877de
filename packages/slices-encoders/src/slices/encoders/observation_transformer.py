"""A transformer over observations: one token for each value that was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from .base import SeparableEncoder, register_encoder
from .config import AttentionConfig, PoolingName, require
from .inputs import StayInputs
from .layers import ContinuousEmbedding, TransformerBlocks, attention_mask, observed_cells
from .tokens import Tokens

HOURS = 24.0  # times are in days, so that they are of the order of one


@dataclass(kw_only=True)
class ObservationTransformerConfig(AttentionConfig):
    """Config of ``ObservationTransformerEncoder``.

    Attributes:
        max_observations: tokens a stay, of its statics, then the latest observations. None: as many as the
            stay of the batch with the most has; on a GPU and in compiled code, where nothing may wait for
            that number, as many as there are cells. Cost grows with its square.
    """

    max_observations: int | None = None
    pooling: PoolingName = "attention"
    refused_poolings: ClassVar[dict[str, str]] = {
        "cls": "the paper's fusion is attention, which is also offered",
        "last": "of several values measured last, none is the last",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        limit = self.max_observations
        require(limit is None or limit >= 1, f"max_observations must be at least 1 or None, got {limit}")


@register_encoder("observation_transformer", ObservationTransformerConfig)
class ObservationTransformerEncoder(SeparableEncoder):
    """STraTS (Tipirneni & Reddy, "Self-supervised transformer for sparse and irregularly sampled multivariate
    clinical time-series", 2022).

    A token is the sum of the embeddings of an observation's value, time and variable (section 3.3); its cost
    follows the number of observations. Departures: where a cell sums up several measurements, the logarithm
    of their number is embedded too; statics are observations, in place of a vector beside the last one;
    blocks normalise before they attend.

    >>> import torch
    >>> encoder = ObservationTransformerEncoder(ObservationTransformerConfig(d_input=5, d_model=16))
    >>> encoder(torch.randn(2, 7, 5), torch.rand(2, 7, 5) < 0.3).shape
    torch.Size([2, 16])
    """

    statics_once = True
    config: ObservationTransformerConfig

    def __init__(self, config: ObservationTransformerConfig) -> None:
        super().__init__(config)
        width = config.d_model
        self.of_value = ContinuousEmbedding(width)
        self.of_time = ContinuousEmbedding(width)
        self.of_count = ContinuousEmbedding(width)
        self.of_variable = nn.Embedding(self.d_input, width)
        self.blocks = TransformerBlocks(config)
        self.norm = nn.LayerNorm(width)

    @property
    def tokens_are_steps(self) -> bool:
        """They are observations."""
        return False

    @property
    def layer_patterns(self) -> tuple[tuple[str, ...], ...]:
        """The embedding of observations, then block by block."""
        return (("of_*",), *((f"blocks.{i}.*",) for i in range(self.config.n_layers)))

    def tokenize_stay(self, stay: StayInputs) -> Tokens:
        """One token an observation."""
        cells = observed_cells(stay.mask, self.static, self.config.max_observations)
        time = stay.times.gather(1, cells.step)
        count = cells.of(stay.counts).clamp(min=1).log()
        embedding = self.of_value(cells.of(stay.x)) + self.of_time(time / HOURS) + self.of_count(count)
        embedding = embedding + self.of_variable(cells.variable)
        return Tokens(embedding, cells.valid, time, cells.variable).embedded(embedding)

    def encode_tokens(self, tokens: Tokens) -> Tokens:
        """Every observation, having attended to all."""
        mask = attention_mask(tokens.valid, tokens.time, causal=False)
        return tokens.embedded(self.norm(self.blocks(tokens.embedding, mask)))
