"""A batch with every awkward stay in it, and small encoders of every kind that an objective may meet."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from slices.ssl import Tokens

torch.set_num_threads(1)  # the tensors are tiny

WIDTH = 8
D = 5
STATIC = (0,)


class Attention(nn.Module):
    """Masked single-head attention with a residual; padding is without effect."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, embedding: Tensor, valid: Tensor) -> Tensor:
        query, key, value = self.qkv(embedding).chunk(3, dim=-1)
        attend = (valid | ~valid.any(-1, keepdim=True)).unsqueeze(1)
        found = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attend)
        return (embedding + found).masked_fill(~valid.unsqueeze(-1), 0.0)


class StepTokens(nn.Module):
    """An encoder with a token per step; keeps the padding law, so steps may be left out."""

    output_dim = WIDTH

    def __init__(self, d_input: int = D) -> None:
        super().__init__()
        self.embed = nn.Linear(3 * d_input + 1, WIDTH)
        self.attention = Attention()
        self.lengths: list[int] = []

    def encode(self, x, mask, padding_mask, times, counts):
        self.lengths.append(x.shape[1])
        features = torch.cat([x, mask, counts.log1p(), times.unsqueeze(-1) / 10], dim=-1)
        embedding = self.attention(self.embed(features), padding_mask)
        return Tokens(embedding, padding_mask, times, torch.full_like(padding_mask, -1, dtype=torch.long))

    def forward(self, x, mask, padding_mask, times, counts):
        return self.encode(x, mask, padding_mask, times, counts).embedding


class ObservationTokens(StepTokens):
    """A token per observation after one for the whole stay."""

    def __init__(self, d_input: int = D) -> None:
        super().__init__(d_input)
        self.embed = nn.Linear(3, WIDTH)
        self.variable = nn.Embedding(d_input + 1, WIDTH)

    def encode(self, x, mask, padding_mask, times, counts):
        self.lengths.append(x.shape[1])
        batch, steps, width = x.shape
        time = times.repeat_interleave(width, dim=1)
        variable = torch.arange(width).repeat(batch, steps)
        features = torch.stack([x.flatten(1), counts.flatten(1).log1p(), time / 10], dim=-1)
        embedding = self.embed(features) + self.variable(variable)
        whole = torch.full((batch, 1), -2)
        embedding = torch.cat([self.variable.weight[-1].expand(batch, 1, -1), embedding], dim=1)
        valid = torch.cat([mask.flatten(1).any(-1, keepdim=True), mask.flatten(1)], dim=1)
        time, variable = torch.cat([times[:, :1], time], 1), torch.cat([whole, variable], 1)
        return Tokens(self.attention(embedding, valid), valid, time, variable)


class StepGRU(nn.Module):
    """A foreign encoder, (B, T, H)."""

    output_dim = WIDTH

    def __init__(self, d_input: int = D) -> None:
        super().__init__()
        self.gru = nn.GRU(2 * d_input, WIDTH, batch_first=True)

    def forward(self, x, mask=None, padding_mask=None):
        return self.gru(torch.cat([x, mask.to(x)], dim=-1))[0] * padding_mask.unsqueeze(-1)


class PooledGRU(StepGRU):
    """A foreign encoder, (B, H)."""

    def forward(self, x, mask=None, padding_mask=None):
        return super().forward(x, mask, padding_mask).mean(1)


class OnlyX(nn.Module):
    """A foreign encoder that names nothing but x."""

    output_dim = WIDTH

    def __init__(self, d_input: int = D) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(d_input, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH))

    def forward(self, values):
        return self.layers(values)


class XAndMask(OnlyX):
    """A foreign encoder that names x and mask."""

    def forward(self, x, mask):
        return self.layers(x + mask)


class Spy(OnlyX):
    """Remembers what it was shown."""

    def forward(self, x, mask, padding_mask, times, counts):
        self.shown = {"x": x, "mask": mask, "padding_mask": padding_mask, "times": times, "counts": counts}
        return self.layers(x)


ENCODERS = {
    kind.__name__: kind for kind in (StepTokens, ObservationTokens, StepGRU, PooledGRU, OnlyX, XAndMask)
}


@pytest.fixture(params=ENCODERS)
def encoder(request):
    torch.manual_seed(0)
    return ENCODERS[request.param]()


@pytest.fixture
def make():
    """Encoders by the name of their class, D input variables by default."""
    torch.manual_seed(0)
    kinds = {**ENCODERS, "Spy": Spy}
    return lambda name, **options: kinds[name](**options)


class Batch(NamedTuple):
    x: Tensor
    mask: Tensor
    padding_mask: Tensor
    times: Tensor
    counts: Tensor


@pytest.fixture
def batch():
    """Eight stays, 12 steps, 5 variables of which the first is static.

    Three are whole; of the others one is padded at its end, one at both ends, one has no observation,
    one has a single usable step, one is nothing but padding.
    """
    generator = torch.Generator().manual_seed(1)
    padding_mask = torch.ones(8, 12, dtype=torch.bool)
    padding_mask[3, 7:] = False
    padding_mask[4, :3] = padding_mask[4, 9:] = False
    padding_mask[7] = False
    mask = torch.rand(8, 12, D, generator=generator) < 0.6
    mask[..., STATIC] = torch.arange(12).view(1, -1, 1) == padding_mask.int().argmax(-1).view(-1, 1, 1)
    mask[5] = False
    mask[6, torch.arange(12) != 4, 1:] = False
    mask[6, 4, 1:] = True
    times = torch.rand(8, 12, generator=generator).cumsum(-1) * padding_mask
    counts = torch.randint(1, 4, mask.shape, generator=generator) * mask
    return Batch(torch.randn(mask.shape, generator=generator), mask, padding_mask, times, counts.float())
