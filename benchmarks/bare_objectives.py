"""Bare loops: the operations of an objective and nothing else, at equal sizes, to time it against."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from bare_encoders import BareTransformer, D, Size, told, waves
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, LAYERS, HEADS = 128, 2, 4  # of decoder and predictor


class BareDecoder(nn.Module):
    """Cross-attention from steps that are asked for to tokens, and a map to the answers."""

    def __init__(self, h: int, n_answers: int) -> None:
        super().__init__()
        self.memory, self.place = nn.Linear(h, WIDTH), nn.Linear(32, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "query_norm": nn.LayerNorm(WIDTH),
                    "query": nn.Linear(WIDTH, WIDTH),
                    "key_value": nn.Linear(WIDTH, 2 * WIDTH),
                    "out": nn.Linear(WIDTH, WIDTH),
                    "mlp": nn.Sequential(
                        nn.LayerNorm(WIDTH),
                        nn.Linear(WIDTH, 2 * WIDTH),
                        nn.GELU(),
                        nn.Linear(2 * WIDTH, WIDTH),
                    ),
                }
            )
            for _ in range(LAYERS)
        )
        self.answer = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, n_answers))

    def forward(self, tokens: Tensor, hours: Tensor, n_asked: int) -> Tensor:
        memory = self.norm(self.memory(tokens) + self.place(hours[:, : tokens.shape[1]]))
        queries = self.place(hours[:, :n_asked])
        for block in self.blocks:
            q = block["query"](block["query_norm"](queries)).unflatten(-1, (HEADS, -1)).transpose(1, 2)  # type: ignore[index]
            kv = block["key_value"](memory).unflatten(-1, (2, HEADS, -1)).permute(2, 0, 3, 1, 4)  # type: ignore[index]
            found = F.scaled_dot_product_attention(q, *kv).transpose(1, 2).flatten(2)
            queries = queries + block["out"](found)  # type: ignore[index]
            queries = queries + block["mlp"](queries)  # type: ignore[index]
        answers: Tensor = self.answer(queries)
        return answers


class BareEncoder(nn.Module):
    """A transformer over steps of which some are left out: its tokens."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        h = size.d_model
        self.embed = nn.Sequential(nn.Linear(4 * D, h), nn.GELU(), nn.Linear(h, h))
        self.embed_time, self.blocks = nn.Linear(32, h), BareTransformer(size)

    def forward(self, x: Tensor, mask: Tensor, hours: Tensor, kept: Tensor) -> Tensor:
        features = told(x, mask)[..., : 4 * D]
        index = kept[..., None]
        steps = features.gather(1, index.expand(-1, -1, features.shape[-1]))
        waves = hours.gather(1, index.expand(-1, -1, 32))
        tokens: Tensor = self.blocks.tokens(self.embed(steps) + self.embed_time(waves))
        return tokens


def halves(mask: Tensor) -> tuple[Tensor, Tensor]:
    """For each stay, which half of its steps is shown and which is hidden."""
    order = torch.rand(mask.shape[:2], device=mask.device).argsort(1)
    return order.chunk(2, dim=1)  # type: ignore[return-value]


class BareMAE(nn.Module):
    """Half of the steps encoded, the values of the others decoded."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.encoder, self.decoder = BareEncoder(size), BareDecoder(size.d_model, D)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        hours = waves(x.shape[1], x.device).expand(len(x), -1, -1)
        kept, hidden = halves(mask)
        answers = self.decoder(self.encoder(x, mask, hours, kept), hours, hidden.shape[1])
        index = hidden[..., None].expand(-1, -1, D)
        seen = mask.gather(1, index)
        error: Tensor = ((answers - x.gather(1, index)).square() * seen).sum() / seen.sum()
        return error


class BareJEPA(nn.Module):
    """Half of the steps encoded, a teacher's tokens of the others predicted."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.encoder, self.decoder = BareEncoder(size), BareDecoder(size.d_model, size.d_model)
        self.teacher = copy.deepcopy(self.encoder).requires_grad_(False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        hours = waves(x.shape[1], x.device).expand(len(x), -1, -1)
        kept, hidden = halves(mask)
        steps = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
        with torch.no_grad():
            target = F.layer_norm(self.teacher(x, mask, hours, steps), (self.encoder.embed[-1].out_features,))
        answers = self.decoder(self.encoder(x, mask, hours, kept), hours, x.shape[1])
        error = F.smooth_l1_loss(answers, target, reduction="none").mean(-1)
        return error.gather(1, hidden).mean()

    def follow(self) -> None:
        for mine, theirs in zip(self.teacher.parameters(), self.encoder.parameters(), strict=True):
            mine.data.lerp_(theirs.data, 0.004)


class BareContrastive(nn.Module):
    """Two views of half of the steps, their means projected, and NT-Xent."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.encoder, h = BareEncoder(size), size.d_model
        self.projector = nn.Sequential(nn.Linear(h, 512), nn.ReLU(), nn.Linear(512, 128))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        hours = waves(x.shape[1], x.device).expand(2 * len(x), -1, -1)
        dropped = torch.cat([x + 0.1 * torch.randn_like(x) for _ in range(2)])
        seen = torch.cat([mask & (torch.rand_like(x) > 0.2) for _ in range(2)])
        tokens = self.encoder(dropped * seen, seen, hours, torch.cat(halves(mask)))
        rows = F.normalize(self.projector(tokens.mean(1)), dim=-1)
        logits = (rows @ rows.T / 0.1).fill_diagonal_(-torch.inf)
        return F.cross_entropy(logits, torch.arange(len(rows), device=x.device).roll(len(x)))


BARE: dict[str, Callable[[Size], nn.Module]] = {
    "mae": BareMAE,
    "jepa": BareJEPA,
    "contrastive": BareContrastive,
}
