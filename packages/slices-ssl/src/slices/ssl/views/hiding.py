"""Views that hide: a crop, steps, variables, cells, observations as if fewer had been made."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from ..draws import share, uniform
from ..encoding import StayInputs
from .look import Look, View, plain_look


class Crop(View):
    """Consecutive real steps, a share ``ratio`` of them, beginning anywhere."""

    def __init__(self, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio

    def forward(
        self, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], generator: torch.Generator | None = None
    ) -> Look:
        real = inputs.padding_mask
        n_real = real.sum(-1, keepdim=True)
        length = share(n_real, self.ratio).clamp(min=1)
        chance = uniform((len(real), 1), real.device, generator)
        start = (chance * (n_real - length + 1)).long()
        place = real.cumsum(-1) - 1
        inside = (place >= start) & (place < start + length) & real
        return plain_look(inputs)._replace(keep=inside.unsqueeze(-1))

    def max_steps(self, n_steps: int) -> int:
        return max(share(n_steps, self.ratio), 1)


class _Drop(View):
    """Hides with probability ``ratio``."""

    def __init__(self, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio

    def forward(
        self, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], generator: torch.Generator | None = None
    ) -> Look:
        chance = uniform(self.shape(*inputs.x.shape), inputs.x.device, generator)
        return plain_look(inputs)._replace(keep=chance >= self.ratio)

    def shape(self, batch: int, steps: int, width: int) -> tuple[int, int, int]:
        """Of what is hidden together; 1 where it is all of an axis."""
        raise NotImplementedError(f"{type(self).__name__} defines no shape")


class MaskSteps(_Drop):
    """Hides each step with probability ``ratio``."""

    def shape(self, batch: int, steps: int, width: int) -> tuple[int, int, int]:
        return batch, steps, 1


class DropVariables(_Drop):
    """Hides each variable of a stay, all of it, with probability ``ratio``."""

    def shape(self, batch: int, steps: int, width: int) -> tuple[int, int, int]:
        return batch, 1, width


class DropElements(_Drop):
    """Hides each cell with probability ``ratio``."""

    def shape(self, batch: int, steps: int, width: int) -> tuple[int, int, int]:
        return batch, steps, width


class Thin(View):
    """Hides observations as if a variable had been measured less often.

    Independent thinning of a point process: of each variable of a stay the observations are kept with one
    probability, drawn between 1 - ``ratio`` and 1. So two looks differ in how densely a variable is measured,
    which says more of who measures than of the patient.
    """

    def __init__(self, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio

    def forward(
        self, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], generator: torch.Generator | None = None
    ) -> Look:
        batch, _, width = inputs.x.shape
        hidden = self.ratio * uniform((batch, 1, width), inputs.x.device, generator)
        return plain_look(inputs)._replace(keep=uniform(inputs.x.shape, inputs.x.device, generator) >= hidden)
