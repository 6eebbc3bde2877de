"""Which cells of a stay an objective keeps visible.

Letters: B stays, T time steps, D variables, U units to hide (steps, cells or variables). A step is
*usable* where it is real and has an observation in a dynamic column. Counts per stay are exact: random
scores are ranked and the highest hidden. A stay with two or more usable steps never has all or none of
its observations hidden; one with fewer has none hidden.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .draws import share, uniform

MaskMode = Literal["time", "block", "element", "variable", "mixed"]
Ratio = float | tuple[float, float]
"""The share of a stay to hide, or the bounds between which it is drawn for each stay."""


class MaskDraw(NamedTuple):
    """A drawn mask; ``keep`` is True where a cell stays visible, and broadcasts to ``(B, T, D)``."""

    keep: Bool[Tensor, "B #T #D"]


def draw_keep(
    mode: MaskMode,
    mask: Bool[Tensor, "B T D"],
    padding_mask: Bool[Tensor, "B T"],
    dynamic: Bool[Tensor, "#D"],
    ratio: Ratio,
    block_length: int = 1,
    generator: torch.Generator | None = None,
) -> Bool[Tensor, "B #T #D"]:
    """Draw what stays visible when a share ``ratio`` of each stay is hidden.

    ``"time"`` hides real steps, ``"block"`` runs of ``block_length`` of them, ``"element"`` observed
    cells (and as large a share of those that are not, so that what is hidden does not tell what was
    observed), ``"variable"`` observed variables over the whole stay (a stay with one is masked in time),
    ``"mixed"`` one of these in each stay, by lot.
    ``mask`` may be True only at real steps. Columns that are not ``dynamic`` are never hidden on
    purpose, but a step hidden whole says False for all of its columns.

    >>> mask = torch.ones(1, 4, 3, dtype=torch.bool)
    >>> real, dynamic = torch.ones(1, 4, dtype=torch.bool), torch.ones(1, dtype=torch.bool)
    >>> draw_keep("time", mask, real, dynamic, ratio=0.5).sum().item()
    2
    """
    if isinstance(ratio, tuple):
        low, high = ratio
        drawn = low + (high - low) * uniform((len(mask), 1), mask.device, generator)
    else:
        drawn = torch.full((len(mask), 1), ratio, device=mask.device)
    return _draw_keep(mode, mask, padding_mask, dynamic, drawn, block_length, generator)


def _draw_keep(
    mode: MaskMode,
    mask: Bool[Tensor, "B T D"],
    padding_mask: Bool[Tensor, "B T"],
    dynamic: Bool[Tensor, "#D"],
    ratio: Float[Tensor, "B 1"],
    block_length: int,
    generator: torch.Generator | None,
) -> Bool[Tensor, "B #T #D"]:
    if mode == "mixed":
        keeps = torch.stack(
            [
                _draw_keep(each, mask, padding_mask, dynamic, ratio, block_length, generator).expand(
                    mask.shape
                )
                for each in ("time", "block", "element", "variable")
            ]
        )
        lot = (uniform((len(mask),), mask.device, generator) * len(keeps)).long()
        return keeps[lot, torch.arange(len(mask), device=mask.device)]
    observed = mask & dynamic
    usable = observed.any(-1)
    if mode in ("time", "block"):
        length = block_length if mode == "block" else 1
        return _keep_steps(usable, padding_mask, ratio, length, generator).unsqueeze(-1)
    too_few = usable.sum(-1).lt(2).view(-1, 1, 1)
    if mode == "element":
        cells = observed.flatten(1)
        score = uniform(cells.shape, mask.device, generator)
        unobserved = (~mask & dynamic).flatten(1)
        hidden = hide_highest(score, cells, cells, ratio) | (unobserved & (score < ratio))
        return ~hidden.view_as(mask) | too_few
    variables = observed.any(1)
    score = uniform(variables.shape, mask.device, generator)
    keep = ~hide_highest(score, variables, variables, ratio).unsqueeze(1)
    in_time = _keep_steps(usable, padding_mask, ratio, 1, generator).unsqueeze(-1)
    return torch.where(variables.sum(-1).gt(1).view(-1, 1, 1), keep, in_time) | too_few


def hide_highest(
    score: Float[Tensor, "B U"],
    exists: Bool[Tensor, "B U"],
    usable: Bool[Tensor, "B U"],
    ratio: float | Float[Tensor, "B 1"],
) -> Bool[Tensor, "B U"]:
    """Hide a share ``ratio`` of the units that exist, those of the highest score, at least 1, never all.

    The lowest of the usable units is always kept, and the highest always hidden where there are two.
    """
    n = exists.sum(-1, keepdim=True)
    n_hidden = share(n, ratio).clamp(min=1).minimum(n - 1)
    lowest = score.masked_fill(~usable, torch.inf).argmin(-1, keepdim=True)
    highest = score.masked_fill(~usable, -torch.inf).argmax(-1, keepdim=True)
    # Kept after hidden: with one usable unit both are the same, and it stays.
    score = score.scatter(-1, highest, 2.0).scatter(-1, lowest, -1.0).masked_fill(~exists, -torch.inf)
    rank = torch.arange(score.shape[-1], device=score.device).expand_as(score)
    return torch.zeros_like(exists).scatter(-1, score.argsort(-1, descending=True), rank < n_hidden)


def max_hidden_steps(mode: MaskMode, ratio: Ratio, n_steps: int) -> int:
    """The most steps of ``n_steps`` that can have something hidden, a Python int for static shapes."""
    if mode not in ("time", "block"):
        return n_steps
    return min(max(share(n_steps, ratio[1] if isinstance(ratio, tuple) else ratio), 1), n_steps)


def max_visible_steps(mode: MaskMode, ratio: Ratio, n_steps: int) -> int:
    """The most steps of ``n_steps`` that can be left, a Python int for static shapes."""
    if mode not in ("time", "block"):
        return n_steps
    least_hidden = max_hidden_steps(mode, ratio[0] if isinstance(ratio, tuple) else ratio, n_steps)
    return max(n_steps - least_hidden, 1)


def _keep_steps(
    usable: Bool[Tensor, "B T"],
    padding_mask: Bool[Tensor, "B T"],
    ratio: Float[Tensor, "B 1"],
    length: int,
    generator: torch.Generator | None,
) -> Bool[Tensor, "B T"]:
    """Rank steps by a score that the ``length`` steps of a block, cut at a random offset, share."""
    batch, steps = usable.shape
    chance = uniform((batch, steps // length + 3), usable.device, generator)
    offset = (chance[:, -1:] * length).long()
    block = (padding_mask.cumsum(-1) - 1 + offset).clamp(min=0) // length
    # The slope only breaks ties inside a block, so that the lowest and the highest step are two.
    score = chance.gather(-1, block) + torch.linspace(0.0, 1e-3, steps, device=usable.device)
    return ~hide_highest(score, padding_mask, usable, ratio)
