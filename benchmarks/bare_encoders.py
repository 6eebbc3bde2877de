"""Bare loops: the operations of an encoder and nothing else, at equal sizes, to time it against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

D = 35


class Size(NamedTuple):
    """Of the comparison with a peer; other encoders are timed as they come."""

    d_model: int = 64
    n_layers: int = 2
    n_heads: int = 4
    batch: int = 64


class BareTransformer(nn.Module):
    """Blocks of scaled-dot-product attention on tokens of any kind, and their mean."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        h = size.d_model
        self.n_heads = size.n_heads
        parts = {"qkv": nn.Linear(h, 3 * h), "out": nn.Linear(h, h), "norm": nn.LayerNorm(h)}
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {name: type(part)(*_arguments(part)) for name, part in parts.items()}
                | {"ff": nn.Sequential(nn.LayerNorm(h), nn.Linear(h, 4 * h), nn.GELU(), nn.Linear(4 * h, h))}
            )
            for _ in range(size.n_layers)
        )
        self.norm = nn.LayerNorm(h)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.tokens(tokens).mean(1)

    def tokens(self, tokens: Tensor) -> Tensor:
        for block in self.blocks:
            heads = block["qkv"](block["norm"](tokens)).unflatten(-1, (3, self.n_heads, -1))  # type: ignore[index]
            q, k, v = heads.permute(2, 0, 3, 1, 4)
            seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
            tokens = tokens + F.dropout(block["out"](seen), 0.1)  # type: ignore[index]
            tokens = tokens + F.dropout(block["ff"](tokens), 0.1)  # type: ignore[index]
        normed: Tensor = self.norm(tokens)
        return normed


def _arguments(part: nn.Module) -> tuple[int, ...]:
    return (part.in_features, part.out_features) if isinstance(part, nn.Linear) else part.normalized_shape  # type: ignore[return-value]


def waves(n_steps: int, device: torch.device) -> Tensor:
    steps, rates = torch.arange(n_steps, device=device), torch.logspace(0, -3, 16, device=device)
    angle = steps[:, None] * rates
    return torch.cat((angle.sin(), angle.cos()), dim=-1)


class BareSteps(nn.Module):
    """A transformer over steps: four numbers a variable, and the hour."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        h = size.d_model
        self.embed = nn.Sequential(nn.Linear(4 * D, h), nn.GELU(), nn.Linear(h, h))
        self.embed_time = nn.Linear(32, h)
        self.blocks = BareTransformer(size)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        hour = self.embed_time(waves(x.shape[1], x.device))
        out: Tensor = self.blocks(self.embed(told(x, mask)[..., : 4 * D]) + hour)
        return out


class BareFlowsheet(nn.Module):
    """A transformer over variables and bins: a few numbers of each, and the bin's hour."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        h, self.n_bins = size.d_model, 12
        self.of_row = nn.Sequential(nn.Linear(3 * self.n_bins + 9, h), nn.GELU(), nn.Linear(h, h))
        self.of_column = nn.Sequential(nn.Linear(4 * D, h), nn.GELU(), nn.Linear(h, h))
        self.of_variable, self.of_hour = nn.Parameter(torch.randn(D, h)), nn.Linear(32, h)
        self.blocks = BareTransformer(size)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        bins, seen = (cells.unflatten(1, (self.n_bins, -1)) for cells in (x, mask))
        value, there, count = bins.amax(2), seen.any(2).float(), torch.log1p(seen.sum(2))
        n, ever = mask.sum(1).clamp(min=1), mask.any(1).float()
        mean, least, greatest = x.sum(1) / n, x.amin(1), x.amax(1)
        spread = (((x - mean[:, None]) * mask).square().sum(1) / n).sqrt()
        summary = (mean, spread, least, greatest, x[:, 0], x[:, -1], ever, torch.log1p(n), ever)
        rows = torch.cat((value.mT, there.mT, count.mT, torch.stack(summary, dim=-1)), dim=-1)
        columns = torch.cat((value, there, count, value), dim=-1)
        hour = self.of_hour(waves(self.n_bins, x.device))
        tokens = (self.of_row(rows) + self.of_variable, self.of_column(columns) + hour)
        out: Tensor = self.blocks(F.dropout(torch.cat(tokens, dim=1), 0.1))
        return out


def latest(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Of each variable at each step its latest value, and the steps since it was measured."""
    steps = torch.arange(x.shape[1], device=x.device)[:, None]
    last = (steps * mask).cummax(1).values
    return x.gather(1, last), (steps - last).float()


def told(x: Tensor, mask: Tensor) -> Tensor:
    """Four numbers a variable, and two of the clock."""
    value, since = latest(x, mask)
    return torch.cat((value, mask.float(), mask.float().log1p(), since.log1p(), x[..., :2]), dim=-1)


class BareGRU(nn.Module):
    """A recurrent net over steps and what is known at each."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.rnn = nn.GRU(4 * D + 2, size.d_model, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        states, _ = self.rnn(told(x, mask))
        return F.dropout(states[:, -1], 0.1)


class BareTCN(nn.Module):
    """Dilated convolutions over steps, two a block, their weights normalised."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        h, kernel, n_blocks = size.d_model, 3, 4
        widths = [4 * D + 2] + [h] * n_blocks
        self.pads = [(kernel - 1) * 2**i for i in range(n_blocks)]
        normed = nn.utils.parametrizations.weight_norm
        self.first, self.second = (
            nn.ModuleList(
                normed(nn.Conv1d(h if second else widths[i], h, kernel, dilation=2**i))
                for i in range(n_blocks)
            )
            for second in (False, True)
        )
        self.skip = nn.Conv1d(widths[0], h, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        steps = told(x, mask).mT
        for i, (pad, first, second) in enumerate(zip(self.pads, self.first, self.second, strict=True)):
            inner = F.dropout(torch.relu(first(F.pad(steps, (pad, 0)))), 0.1)
            inner = F.dropout(torch.relu(second(F.pad(inner, (pad, 0)))), 0.1)
            steps = torch.relu(inner + (steps if i else self.skip(steps)))
        return steps[..., -1]


class BareObservations(nn.Module):
    """A transformer over as many observations as the fullest stay has."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        h = size.d_model
        self.of_value = nn.Sequential(nn.Linear(1, 11), nn.Tanh(), nn.Linear(11, h))
        self.of_time = nn.Sequential(nn.Linear(1, 11), nn.Tanh(), nn.Linear(11, h))
        self.of_variable = nn.Embedding(D, h)
        self.blocks = BareTransformer(size)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        most = int(mask.sum((1, 2)).max())
        place = mask.flatten(1).int().topk(most, dim=1).indices
        value = self.of_value(x.flatten(1).gather(1, place)[..., None])
        out: Tensor = self.blocks(
            value + self.of_time((place // D)[..., None].float()) + self.of_variable(place % D)
        )
        return out


class BareGRUD(nn.Module):
    """The recurrence of GRU-D, on each variable's last value and the steps since then."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        h = size.d_model
        self.rate = nn.Parameter(torch.rand(D))
        self.forget, self.inputs = nn.Linear(D, h), nn.Linear(2 * D, 3 * h)
        self.gates, self.candidate = nn.Linear(h, 2 * h, bias=False), nn.Linear(h, h, bias=False)
        self.h = h

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        steps = torch.arange(x.shape[1], device=x.device)[:, None]
        last = F.pad((steps * mask).cummax(1).values[:, :-1], (0, 0, 1, 0))
        since, seen = (steps - last).float(), mask.float()
        kept = torch.exp(-torch.relu(self.rate * since))
        inputs = self.inputs(torch.cat((x + (1 - seen) * kept * x.gather(1, last), seen), dim=-1))
        fades = torch.exp(-torch.relu(self.forget(since))).unbind(1)
        gates, candidates = inputs.split((2 * self.h, self.h), dim=-1)
        state = x.new_zeros(x.shape[0], self.h)
        for fade, gate, candidate in zip(fades, gates.unbind(1), candidates.unbind(1), strict=True):
            faded = fade * state
            update, reset = torch.sigmoid(gate + self.gates(faded)).chunk(2, dim=-1)
            state = torch.lerp(faded, torch.tanh(candidate + self.candidate(reset * faded)), update)
        return F.dropout(state, 0.1)


class BareSMART(nn.Module):
    """Attention over time within each variable, then over variables, on all cells."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        h = size.d_model
        self.n_heads = size.n_heads
        self.embed = nn.Sequential(nn.Linear(2, h), nn.Linear(h, h))
        self.summary = nn.Parameter(torch.randn(D, 1, h))
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "time_norm": nn.LayerNorm(h),
                    "variable_norm": nn.LayerNorm(h),
                    "qkv": nn.Linear(h, 3 * h, bias=False),
                    "out": nn.Linear(h, h),
                    "qk": nn.Linear(h, 2 * h, bias=False),
                    "v": nn.Linear(h, h, bias=False),
                    "variable_out": nn.Linear(h, h),
                    "ff": nn.Sequential(nn.LayerNorm(h), nn.Linear(h, 4 * h), nn.GELU(), nn.Linear(4 * h, h)),
                }
            )
            for _ in range(size.n_layers)
        )
        self.join = nn.Linear(D * h, h)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        cells = self.embed(torch.stack((x, mask.float()), dim=-1)).transpose(1, 2)
        tokens = torch.cat((self.summary.expand(len(x), -1, -1, -1), cells), dim=2)
        for part in self.blocks:
            block: Any = part
            heads = block["qkv"](block["time_norm"](tokens)).unflatten(-1, (3, self.n_heads, -1))
            q, k, v = heads.permute(3, 0, 1, 4, 2, 5).flatten(1, 2)
            seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
            tokens = tokens + F.dropout(block["out"](seen).reshape(tokens.shape), 0.1)
            normed = block["variable_norm"](tokens)
            query, key = block["qk"](normed).chunk(2, dim=-1)
            q, k = (
                t.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for t in (query[:, :, 0], key.mean(2))
            )
            weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1)
            v = block["v"](normed).unflatten(-1, (self.n_heads, -1)).permute(0, 3, 1, 2, 4)
            seen = (weights @ v.flatten(-2)).reshape(v.shape).permute(0, 2, 3, 1, 4).flatten(-2)
            tokens = tokens + F.dropout(block["variable_out"](seen), 0.1)
            tokens = tokens + F.dropout(block["ff"](tokens), 0.1)
        out: Tensor = self.join(tokens[:, :, 0].flatten(1))
        return out


BARE: dict[str, Callable[[Size], nn.Module]] = {
    "flowsheet": BareFlowsheet,
    "transformer": BareSteps,
    "gru": BareGRU,
    "gru_d": BareGRUD,
    "tcn": BareTCN,
    "observation_transformer": BareObservations,
    "smart": BareSMART,
}
