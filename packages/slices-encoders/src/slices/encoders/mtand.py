"""mTAN: attention from reference times to irregular observations. Letters: K reference times, J heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .base import TokenEncoder, register_encoder
from .config import EncoderConfig, PoolingName, require
from .inputs import StayInputs, real_steps_first, take
from .layers import Dropout
from .tokens import STEP, Tokens, step_tokens

HOURS = 24.0  # times are in days, so that they are of the order of one
FARTHEST = 60.0  # nats below the greatest score, so that no weight of an observation is 0


@dataclass(kw_only=True)
class MTANDConfig(EncoderConfig):
    """Config of ``MTANDEncoder``.

    Attributes:
        n_reference: reference times K, evenly over the stay to begin with.
        d_time: width of a time embedding.
        n_heads: time embeddings, of which each head has its own part; must divide ``d_time``.
    """

    n_layers: int = 1
    n_reference: int = 64
    d_time: int = 64
    n_heads: int = 4
    pooling: PoolingName = "last"
    refused_poolings: ClassVar[dict[str, str]] = {"cls": "a recurrent encoder has no CLS token"}

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.n_reference >= 2, f"n_reference must be at least 2, got {self.n_reference}")
        require(self.n_heads >= 1, f"n_heads must be at least 1, got {self.n_heads}")
        require(
            self.d_time % self.n_heads == 0,
            f"d_time must be a multiple of n_heads, got d_time={self.d_time} and n_heads={self.n_heads}",
        )


@register_encoder("mtand", MTANDConfig)
class MTANDEncoder(TokenEncoder):
    """The encoder of mTAND (Shukla & Marlin, "Multi-time attention networks", 2021).

    Every variable is interpolated at reference times: a mean of its observations, weighted by a softmax over
    the similarity of learned embeddings of the times (eqs. 2 to 4). A recurrent net reads the result. With
    pooling "none" the reference times are the stay's own steps. Departures: reference times are fractions of
    the stay's span, and learned; a time is in days; no observation weighs less than ``exp(-60)`` of the best
    step; the net is a GRU in one direction, as in the paper's
    classifier.

    >>> encoder = MTANDEncoder(MTANDConfig(d_input=5, d_model=16))
    >>> encoder(torch.randn(2, 7, 5)).shape
    torch.Size([2, 16])
    """

    blind_to: ClassVar[Mapping[str, str]] = {"counts": "the paper's inputs are values and masks"}
    config: MTANDConfig

    def __init__(self, config: MTANDConfig) -> None:
        super().__init__(config)
        self.interpolate = MultiTimeAttention(config.d_time, config.n_heads)
        self.mix = nn.Linear((config.n_heads + 1) * self.d_input, config.d_model)
        self.rnn = nn.GRU(config.d_model, config.d_model, num_layers=config.n_layers, batch_first=True)
        self.dropout = Dropout(config.dropout)
        if not self.tokens_are_steps:
            self.reference = nn.Parameter(torch.linspace(0.0, 1.0, config.n_reference))

    @property
    def tokens_are_steps(self) -> bool:
        """With pooling "none"; otherwise they are reference times."""
        return self.config.pooling == "none"

    @property
    def layer_patterns(self) -> tuple[tuple[str, ...], ...]:
        """Interpolation, then layer by layer of the recurrent net."""
        below = ("reference", "interpolate.*", "mix.*")
        return (below, *((f"rnn.*_l{i}",) for i in range(self.config.n_layers)))

    @property
    def static_length(self) -> str:
        """With an embedding a step the recurrence is over the steps."""
        return "recurrence" if self.tokens_are_steps else ""

    def encode_stay(self, stay: StayInputs) -> Tokens:
        """One token a reference time; with pooling "none" one a step."""
        row, place = real_steps_first(stay)
        if self.tokens_are_steps:
            return step_tokens(take(self.read(row, row.times), place), stay)
        times = self.reference_times(row)
        valid = row.padding_mask.any(1, keepdim=True).expand(times.shape)
        embedding = self.read(row, times).masked_fill(~valid.unsqueeze(-1), 0.0)
        return Tokens(embedding, valid, times, torch.full_like(valid, STEP, dtype=torch.int64))

    def reference_times(self, row: StayInputs) -> Float[Tensor, "B K"]:
        """In hours: fractions of the span from the first to the last real step, in ascending order."""
        first = row.times[:, :1]
        last = torch.where(row.padding_mask, row.times, -torch.inf).amax(1, keepdim=True)
        span = torch.where(row.padding_mask.any(1, keepdim=True), last - first, 0.0)
        return first + span * self.reference.clamp(0, 1).sort().values.float()

    def read(self, row: StayInputs, times: Float[Tensor, "B K"]) -> Float[Tensor, "B K H"]:
        """The state of the recurrent net at each of the times."""
        with torch.autocast(row.x.device.type, enabled=False):  # rounding would add up over the steps
            states, _ = self.rnn(self.mix(self.interpolate(row, times)))
        read: Tensor = self.dropout(states)
        return read


class MultiTimeAttention(nn.Module):
    """Every variable at any times: the mean of its observations, weighted by how alike the times are."""

    def __init__(self, d_time: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.embed_time = PeriodicTime(d_time)
        self.query = nn.Linear(d_time, d_time)
        self.key = nn.Linear(d_time, d_time)

    def forward(self, row: StayInputs, times: Float[Tensor, "B K"]) -> Float[Tensor, "B K F"]:
        """Of each head and variable the weighted mean; and of each variable whether it was ever observed.

        The softmax is over the steps at which a variable was observed: a variable's own sums of the weights
        ``exp(score)`` and of weights times values, all as two products of matrices.
        """
        weight = self._weights(row, times)
        seen = row.mask.to(weight.dtype)
        values, presence = (weight @ cells.unsqueeze(1) for cells in (row.x * seen, seen))
        mean = values / torch.where(presence > 0, presence, 1.0)
        ever = row.mask.any(1, keepdim=True).to(mean.dtype).expand(-1, times.shape[1], -1)
        return torch.cat((mean.transpose(1, 2).flatten(2), ever), dim=-1)

    def attention(self, row: StayInputs, times: Float[Tensor, "B K"]) -> Float[Tensor, "B J K T"]:
        """The weight of each step, as it is for a variable observed at all of them; real steps come first."""
        weight = self._weights(row, times)
        return weight / weight.sum(-1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)

    def _weights(self, row: StayInputs, times: Float[Tensor, "B K"]) -> Float[Tensor, "B J K T"]:
        """``exp(score)`` over that of the best step; 0 at padding."""
        query = self._heads(self.query(self.embed_time(times / HOURS)))
        key = self._heads(self.key(self.embed_time(row.times / HOURS)))
        score = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        score = score.masked_fill(~row.padding_mask[:, None, None], -torch.inf)
        score = score - score.amax(-1, keepdim=True).clamp(min=torch.finfo(score.dtype).min).detach()
        return torch.exp(score.clamp(min=-FARTHEST)) * row.padding_mask[:, None, None]

    def _heads(self, embedding: Float[Tensor, "B N E"]) -> Float[Tensor, "B J N e"]:
        return torch.unflatten(embedding, -1, (self.n_heads, -1)).transpose(1, 2)


class PeriodicTime(nn.Module):
    """A learned embedding of time: one number linear in it, the others sines (eq. 1 of the paper)."""

    def __init__(self, d_time: int) -> None:
        super().__init__()
        self.phase = nn.Linear(1, d_time)

    def forward(self, times: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape E"]:
        angle = self.phase(times.unsqueeze(-1).to(self.phase.weight.dtype))
        return torch.cat((angle[..., :1], angle[..., 1:].sin()), dim=-1)
