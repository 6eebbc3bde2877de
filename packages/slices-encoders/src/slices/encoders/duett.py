"""DuETT: attention over events, whole series of a variable, and over times, all variables of a bin.

Letters: K bins, S of them and the summary, V variables that are not static, C of them and the statics, E
width of a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .base import TokenEncoder, register_encoder
from .config import EncoderConfig, PoolingName, require
from .inputs import StayInputs
from .layers import Bins, ContinuousEmbedding, TransformerBlock, bins_of_span
from .tokens import STEP, Tokens, joined, stay_token

HOURS = 24.0  # times are in days, so that they are of the order of one
MOST_COUNTED = 15


@dataclass(kw_only=True)
class DuETTConfig(EncoderConfig):
    """Config of ``DuETTEncoder``.

    Attributes:
        d_token: width E of a token; ``d_model`` is that of the embeddings that come out.
        n_bins: bins K over each stay's own span.
        n_heads: attention heads; must divide ``d_token``.
        d_hidden: width of the nets that embed values and statics.
        d_ff: width of the feed-forward nets.
    """

    d_token: int = 24
    n_bins: int = 32
    n_heads: int = 2
    d_hidden: int = 64
    d_ff: int = 512
    pooling: PoolingName = "cls"
    refused_poolings: ClassVar[dict[str, str]] = {"last": "several variables are in the last bin"}

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("d_token", "n_bins", "n_heads", "d_hidden", "d_ff"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        require(
            self.d_token % self.n_heads == 0,
            f"d_token must be a multiple of n_heads, got d_token={self.d_token} and n_heads={self.n_heads}",
        )


@register_encoder("duett", DuETTConfig)
class DuETTEncoder(TokenEncoder):
    """DuETT (Labach et al., "DuETT: dual event time transformer for electronic health records", 2023).

    Each variable's last value and count in each of K bins over the stay become a token, by a net of the
    variable's own; statics are one more column, a learned summary one more bin (section 3.1). A layer attends
    over columns, each with all its bins as one vector, then over bins, each with all its columns (section
    3.2). With pooling "cls" the summary bin, all columns of it, is mapped to one embedding. Departures: no
    batch normalisation, which lets stays know of each other, and layer normalisation in place of scaling;
    statics are told whether they were observed; tokens and summary are mapped to ``d_model``, the latter in
    the paper's head.

    >>> encoder = DuETTEncoder(DuETTConfig(d_input=5, static_columns=(0,)))
    >>> encoder(torch.randn(2, 7, 5), torch.rand(2, 7, 5) < 0.3).shape
    torch.Size([2, 64])
    """

    config: DuETTConfig

    def __init__(self, config: DuETTConfig) -> None:
        super().__init__(config)
        statics = list(config.static_columns)
        columns = [column for column in range(self.d_input) if column not in statics]
        self.columns: Tensor
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.int64), persistent=False)
        self.statics: Tensor
        self.register_buffer("statics", torch.tensor(statics, dtype=torch.int64), persistent=False)
        if not columns:
            raise ValueError("duett needs a variable that is not static: static_columns names all of d_input")
        n_columns, width, hidden = len(columns) + 1, config.d_token, config.d_hidden
        self.embed_count = nn.Embedding(MOST_COUNTED + 1, 1)
        self.embed_values = EachColumnsNet(n_columns - 1, 2, hidden, width)
        self.embed_statics = nn.Sequential(
            nn.Linear(2 * len(statics) or 1, hidden), nn.ReLU(), nn.Linear(hidden, width)
        )
        self.summary = nn.Parameter(torch.randn(width))
        series, moment = (config.n_bins + 1) * width, n_columns * width
        self.of_column = nn.Parameter(torch.randn(n_columns, series))
        self.of_time = ContinuousEmbedding(moment)
        self.of_summary = nn.Parameter(torch.randn(moment))
        self.over_events = nn.ModuleList(attention(series, config) for _ in range(config.n_layers))
        self.over_times = nn.ModuleList(attention(moment, config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(moment)
        self.out = nn.Linear(width, config.d_model)
        if config.pooling == "cls":
            self.join = nn.Linear(n_columns * config.d_model, config.d_model)

    @property
    def tokens_are_steps(self) -> bool:
        """They are variables in bins."""
        return False

    @property
    def layer_patterns(self) -> tuple[tuple[str, ...], ...]:
        """The embedding of cells, then layer by layer."""
        below = ("embed_*", "summary", "of_*")
        return (below, *((f"over_*.{i}.*",) for i in range(self.config.n_layers)))

    def encode_stay(self, stay: StayInputs) -> Tokens:
        """One token a bin and observed variable, and one a bin (the statics'); of the time it begins."""
        bins = bins_of_span(stay, self.config.n_bins)
        width = self.config.d_token
        cells = self.tokens(stay, bins)  # (B, S, C, E)
        when = self.of_time(bins.end / HOURS)
        when = torch.cat((when, self.of_summary.to(when.dtype).expand(when.shape[0], 1, -1)), dim=1)
        for over_events, over_times in zip(self.over_events, self.over_times, strict=True):
            events = over_events(cells.transpose(1, 2).flatten(2) + self.of_column)
            cells = events.unflatten(-1, (-1, width)).transpose(1, 2)
            moments = over_times(cells.flatten(2) + when)
            cells = moments.unflatten(-1, (-1, width))
        cells = self.norm(cells.flatten(2)).unflatten(-1, (-1, width))
        return self._tokens(self.out(cells), bins, stay)

    def tokens(self, stay: StayInputs, bins: Bins) -> Float[Tensor, "B S C E"]:
        """Cells, the statics' column after them, the summary's bin last."""
        counted = self.embed_count(bins.counts.round().clamp(0, MOST_COUNTED).long()).squeeze(-1)
        known = torch.stack((bins.value, counted.to(bins.value.dtype)), dim=-1).index_select(2, self.columns)
        column = self.embed_statics(self._statics(stay))[:, None, None].expand(-1, bins.real.shape[1], -1, -1)
        cells = torch.cat((self.embed_values(known), column), dim=2)
        summary = self.summary.to(cells.dtype).expand(cells.shape[0], 1, cells.shape[2], -1)
        return torch.cat((cells, summary), dim=1)

    def _statics(self, stay: StayInputs) -> Float[Tensor, "B S"]:
        """Values and presence, which are those of every real step."""
        if not self.config.static_columns:
            return stay.x.new_ones(stay.x.shape[0], 1)
        seen = stay.mask.index_select(2, self.statics)
        value = torch.where(seen, stay.x.index_select(2, self.statics), -torch.inf).amax(1)
        seen = seen.any(1)
        return torch.cat((torch.where(seen, value, 0.0), seen.to(value.dtype)), dim=-1)

    def _tokens(self, embedding: Float[Tensor, "B S C H"], bins: Bins, stay: StayInputs) -> Tokens:
        """Of the columns in the order of the variables, the statics' as that of a whole bin."""
        valid = torch.cat((bins.mask.index_select(2, self.columns), bins.real.unsqueeze(-1)), dim=-1)
        variable = F.pad(self.columns, (0, 1), value=STEP).expand(valid.shape)
        time = bins.start.unsqueeze(-1).expand(valid.shape)
        cells = embedding[:, :-1].masked_fill(~valid.unsqueeze(-1), 0.0)
        tokens = Tokens(*(field.flatten(1, 2) for field in (cells, valid, time, variable)))
        if self.config.pooling != "cls":
            return tokens
        return joined(stay_token(self.join(embedding[:, -1].flatten(1)), stay), tokens)


def attention(width: int, config: DuETTConfig) -> TransformerBlock:
    """A transformer block on vectors so wide, whose heads together are only ``d_token`` wide."""
    return TransformerBlock(width, config.n_heads, config.d_ff, config.dropout, d_heads=config.d_token)


class EachColumnsNet(nn.Module):
    """A net with one hidden layer for every column, all at once: ``(B, K, V, C)`` to ``(B, K, V, E)``."""

    def __init__(self, n_columns: int, c_in: int, hidden: int, c_out: int) -> None:
        super().__init__()
        nets = [(nn.Linear(c_in, hidden), nn.Linear(hidden, c_out)) for _ in range(n_columns)]
        self.inner = nn.Parameter(torch.stack([inner.weight.detach() for inner, _ in nets]))
        self.inner_bias = nn.Parameter(torch.stack([inner.bias.detach() for inner, _ in nets]))
        self.outer = nn.Parameter(torch.stack([outer.weight.detach() for _, outer in nets]))
        self.outer_bias = nn.Parameter(torch.stack([outer.bias.detach() for _, outer in nets]))

    def forward(self, cells: Float[Tensor, "B K V C"]) -> Float[Tensor, "B K V E"]:
        inner = torch.relu(torch.einsum("bkvc,vhc->bkvh", cells, self.inner) + self.inner_bias)
        return torch.einsum("bkvh,veh->bkve", inner, self.outer) + self.outer_bias
