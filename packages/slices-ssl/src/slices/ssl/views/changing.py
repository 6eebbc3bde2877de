"""Views that change: values, the time of each step, the time of a whole stay."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..draws import normal, uniform
from ..encoding import StayInputs
from .look import Look, View, plain_look


class JitterValues(View):
    """Adds normal noise of standard deviation ``scale``, in units of the values, which are normalised."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(
        self, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], generator: torch.Generator | None = None
    ) -> Look:
        noise = self.scale * normal(inputs.x.shape, inputs.x.device, generator)
        return plain_look(inputs)._replace(noise=noise)


class JitterTimes(View):
    """Moves each step by up to ``share`` of half the gap to its nearest neighbour, so that none overtakes."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(
        self, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], generator: torch.Generator | None = None
    ) -> Look:
        chance = 2 * uniform(inputs.times.shape, inputs.times.device, generator) - 1
        room = _nearest(inputs.times.float(), inputs.padding_mask) / 2
        return plain_look(inputs)._replace(shift=self.share * chance * room)


class ShiftTimes(View):
    """Moves a stay as a whole by up to ``hours`` either way."""

    def __init__(self, hours: float) -> None:
        super().__init__()
        self.hours = hours

    def forward(
        self, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], generator: torch.Generator | None = None
    ) -> Look:
        chance = 2 * uniform((len(inputs.times), 1), inputs.times.device, generator) - 1
        return plain_look(inputs)._replace(shift=self.hours * chance)


def _nearest(times: Float[Tensor, "B T"], real: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Hours to the nearest other real step; 0 where there is none, and at padding."""
    edge = times.new_full((len(times), 1), torch.inf)
    latest = times.masked_fill(~real, -torch.inf).cummax(1).values
    next_ = -(-times).masked_fill(~real, -torch.inf).flip(1).cummax(1).values.flip(1)
    gap = torch.minimum(
        times - torch.cat([-edge, latest[:, :-1]], 1), torch.cat([next_[:, 1:], edge], 1) - times
    )
    return gap.masked_fill(~real | gap.isinf(), 0.0)
