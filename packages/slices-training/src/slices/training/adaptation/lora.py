"""LoRA: Hu et al., "LoRA: low-rank adaptation of large language models" (2022)."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from slices.training.errors import UserError

log = logging.getLogger(__name__)
M = TypeVar("M", bound=nn.Module)


class LowRank(nn.Module):
    """``W + alpha / rank * B A`` in place of a weight ``W (out, in)``: equation 3 with its section 4.1.

    ``B`` begins at 0, so that the layer begins as it was.
    """

    def __init__(self, weight: Float[Tensor, "out in"], rank: int, alpha: float) -> None:
        super().__init__()
        n_out, n_in = weight.shape
        self.a = nn.Parameter(weight.new_empty(rank, n_in))
        self.b = nn.Parameter(weight.new_zeros(n_out, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))
        self.scale = alpha / rank

    def forward(self, weight: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
        return weight + self.scale * (self.b @ self.a)


def add_lora(
    module: nn.Module, rank: int, alpha: float | None = None, layers: Sequence[str] = ("*",)
) -> list[str]:
    """Gives linear layers, in place, a change to learn; returns the names of its parameters.

    What is no linear layer (norms, recurrent weights, embeddings) has none.

    Args:
        module: whose ``nn.Linear`` layers are meant, whatever their depth.
        rank: at most that of the layer.
        alpha: scale times rank; twice the rank by default. A layer too narrow for the rank keeps the scale.
        layers: patterns, one of which a layer's name must match.

    Raises:
        UserError: a pattern that matches no linear layer.

    >>> mlp = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> add_lora(mlp, rank=2, layers=["0"])
    ['0.parametrizations.weight.0.a', '0.parametrizations.weight.0.b']
    """
    linear = {name: part for name, part in module.named_modules() if isinstance(part, nn.Linear)}
    for pattern in layers:
        if not any(fnmatchcase(name, pattern) for name in linear):
            raise UserError(
                f"training.lora_layers: {pattern!r} is no linear layer of {type(module).__name__}; there are "
                + (", ".join(linear) or "none at all, so use another way to adapt, as in adaptation=gradual")
            )
    chosen = {name: part for name, part in linear.items() if any(fnmatchcase(name, p) for p in layers)}
    for part in chosen.values():
        fitting = min(rank, *part.weight.shape)
        low_rank = LowRank(part.weight, fitting, (alpha or 2 * rank) * fitting / rank)
        parametrize.register_parametrization(part, "weight", low_rank)
    learned = {id(p) for part in module.modules() if isinstance(part, LowRank) for p in part.parameters()}
    names = [name for name, parameter in module.named_parameters() if id(parameter) in learned]
    log.info("LoRA of rank %d on %d of %d linear layers", rank, len(names) // 2, len(linear))
    return names


def name_within(name: str) -> str:
    """What a weight is called once its layer has a change to learn.

    >>> name_within("pool.0.weight"), name_within("pool.0.bias")
    ('pool.0.parametrizations.weight.original', 'pool.0.bias')
    """
    layer, _, last = name.rpartition(".")
    return f"{layer}.parametrizations.weight.original" if last == "weight" else name


def merged(module: M) -> M:
    """A copy with each change added to its weight: plain layers, that say the same.

    >>> mlp = nn.Sequential(nn.Linear(8, 2))
    >>> _ = add_lora(mlp, rank=1)
    >>> sorted(merged(mlp).state_dict())
    ['0.bias', '0.weight']
    """
    plain = copy.deepcopy(module)
    for part in plain.modules():
        if isinstance(part, nn.Linear) and parametrize.is_parametrized(part, "weight"):
            with torch.no_grad():
                parametrize.remove_parametrizations(part, "weight", leave_parametrized=True)
    return plain
