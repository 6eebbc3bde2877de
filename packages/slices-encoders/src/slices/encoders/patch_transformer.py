"""A transformer over patches of each variable's steps. Letters: P steps a patch, M patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from .base import TokenEncoder, register_encoder
from .config import AttentionConfig, require
from .inputs import StayInputs, log_days, real_steps_first, step_features
from .layers import TimeEmbedding, TransformerBlocks, attention_mask, rows_to_compute
from .tokens import Tokens


@dataclass(kw_only=True)
class PatchTransformerConfig(AttentionConfig):
    """Config of ``PatchTransformerEncoder``.

    Attributes:
        patch: steps P of a patch. Patches do not overlap.
    """

    patch: int = 6
    refused_poolings: ClassVar[dict[str, str]] = {
        "cls": "PatchTST has no CLS token",
        "last": "of the last patches of all variables, none is the last",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.patch >= 1, f"patch must be at least 1, got {self.patch}")


@register_encoder("patch_transformer", PatchTransformerConfig)
class PatchTransformerEncoder(TokenEncoder):
    """PatchTST (Nie et al., "A time series is worth 64 words", 2023), for series full of gaps.

    The steps of each variable are cut into patches, mapped to tokens, and go through one transformer that
    attends within a variable, not across (section 3.1). Departures: patches do not overlap; the blocks are
    pre-norm with layer normalisation, where the paper's have batch normalisation; of each step a patch holds
    the latest value, whether that was observed, the count, its age and the time since the patch began; tokens
    where a variable was not observed in the whole patch are left out, and on a CPU the cost follows the
    series that have anything observed; a token is placed by its time and told its variable, since embeddings
    of all variables are pooled, where the paper reads each apart; statics are added to every token; values
    keep their level, which the paper takes away.

    >>> encoder = PatchTransformerEncoder(PatchTransformerConfig(d_input=5, d_model=16))
    >>> encoder(torch.randn(2, 7, 5)).shape
    torch.Size([2, 16])
    """

    statics_once = True
    config: PatchTransformerConfig

    def __init__(self, config: PatchTransformerConfig) -> None:
        super().__init__(config)
        width = config.d_model
        self.embed = nn.Linear(5 * config.patch, width)
        self.embed_time = TimeEmbedding(width)
        self.embed_variable = nn.Embedding(self.d_input, width)
        self.statics: Tensor
        self.register_buffer(
            "statics", torch.tensor(config.static_columns, dtype=torch.int64), persistent=False
        )
        self.embed_statics = (
            nn.Linear(2 * len(config.static_columns), width) if config.static_columns else None
        )
        self.blocks = TransformerBlocks(config)
        self.norm = nn.LayerNorm(width)

    @property
    def tokens_are_steps(self) -> bool:
        """They are patches of variables."""
        return False

    @property
    def layer_patterns(self) -> tuple[tuple[str, ...], ...]:
        """The embedding of patches, then block by block."""
        return (("embed*",), *((f"blocks.{i}.*",) for i in range(self.config.n_layers)))

    @property
    def static_length(self) -> str:
        """Steps are cut into patches."""
        return "patches of steps"

    def encode_stay(self, stay: StayInputs) -> Tokens:
        """One token a variable and patch, N = D M; of the time at which the patch begins."""
        row, _ = real_steps_first(stay)
        valid = self._patches(row.mask).any(-1)  # (B, D, M)
        times, real = self._patches(row.times.unsqueeze(-1)), self._patches(row.padding_mask.unsqueeze(-1))
        time = times[..., 0].expand(valid.shape)
        since = torch.where(real, log_days(times - times[..., :1]), 0.0).to(row.x.dtype)
        features = step_features(row) * row.padding_mask.unsqueeze(-1)
        kinds = [self._patches(kind) for kind in features.chunk(4, dim=-1)]
        patches = torch.cat([*kinds, since.expand(kinds[0].shape)], dim=-1)
        tokens = self.embed(patches) + self.embed_time(time) + self.embed_variable.weight.unsqueeze(1)
        if self.embed_statics is not None:
            tokens = tokens + self.embed_statics(self._statics(row))[:, None, None]
        tokens = tokens.flatten(0, 1)  # a series of its own for each stay and variable
        there = valid.flatten(0, 1)
        mask = attention_mask(there, time.flatten(0, 1), causal=False)
        tokens = self.norm(self.blocks(tokens, mask, rows_to_compute(there.any(1))))
        embedding = tokens.unflatten(0, valid.shape[:2])
        variable = torch.arange(self.d_input, device=stay.x.device)[:, None].expand(valid.shape)
        places = Tokens(*(field.flatten(1, 2) for field in (embedding, valid, time, variable)))
        return places.embedded(places.embedding)

    def _patches(self, steps: Shaped[Tensor, "B T C"]) -> Shaped[Tensor, "B C M P"]:
        """The steps of each channel, patch by patch; the last is filled up with 0."""
        size = self.config.patch
        lacking = -steps.shape[1] % size
        padded = F.pad(steps.transpose(1, 2), (0, lacking))
        return torch.unflatten(padded, -1, (-1, size))

    def _statics(self, row: StayInputs) -> Float[Tensor, "B S"]:
        """Values and presence at the first real step."""
        known = torch.stack((row.x[:, 0], row.mask[:, 0].to(row.x.dtype)), dim=1)
        return known.index_select(2, self.statics).flatten(1)
