"""What one look at stays shows: cells kept, noise on values, times moved.

Letters: B stays, T time steps, D variables.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..draws import uniform
from ..encoding import StayInputs, hide


class Look(NamedTuple):
    """A drawn view of each stay.

    Attributes:
        keep: the cells that stay visible.
        noise: added to values, in the units of the values.
        shift: added to times, in hours.
        statics: does the stay show its statics?
    """

    keep: Bool[Tensor, "B #T #D"]
    noise: Float[Tensor, "B #T #D"]
    shift: Float[Tensor, "B #T"]
    statics: Bool[Tensor, "B 1"]

    def over(self, other: Look) -> Look:
        """Both together: what both keep, and all noise and shifts."""
        return Look(
            self.keep & other.keep,
            self.noise + other.noise,
            self.shift + other.shift,
            self.statics & other.statics,
        )


def plain_look(inputs: StayInputs) -> Look:
    """A look that shows all as it is."""
    one = inputs.times.new_zeros(len(inputs.times), 1, 1)
    everything = torch.ones_like(one, dtype=torch.bool)
    return Look(everything, one, one[..., 0], everything[..., 0])


class View(nn.Module):
    """Draws looks at stays. A subclass says in ``forward`` what it hides or changes.

    ``forward(inputs, dynamic, generator)`` draws on the device of the inputs, for each stay its own; columns
    that are not ``dynamic`` are statics, which ``look_at`` sees to.
    """

    def forward(
        self, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], generator: torch.Generator | None = None
    ) -> Look:
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def max_steps(self, n_steps: int) -> int:
        """The most of ``n_steps`` that a look can show, a Python int for static shapes."""
        return n_steps


class Compose(View):
    """All of some views together. A stay with an observation always shows some.

    Where nothing would be left, one usable step is kept whole, of those that the views keep some of where
    there is one.

    >>> from slices.ssl.encoding import complete
    >>> from slices.ssl.views import DropElements, JitterValues
    >>> stays = complete(torch.zeros(2, 4, 3), torch.ones(2, 4, 3, dtype=torch.bool))
    >>> look = Compose([DropElements(0.5), JitterValues(0.1)])(stays, torch.ones(1, dtype=torch.bool))
    >>> look.keep.shape, look.noise.shape
    (torch.Size([2, 4, 3]), torch.Size([2, 4, 3]))
    """

    views: Sequence[View]

    def __init__(self, views: Iterable[View]) -> None:
        super().__init__()
        self.views = nn.ModuleList(views)  # type: ignore[assignment]

    def forward(
        self, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], generator: torch.Generator | None = None
    ) -> Look:
        look = plain_look(inputs)
        for view in self.views:
            look = look.over(view(inputs, dynamic, generator))
        observed = inputs.mask & dynamic
        usable, kept = observed.any(-1), look.keep.any(-1)
        chance = uniform(usable.shape, usable.device, generator)
        last = (chance + usable + (usable & kept)).argmax(-1, keepdim=True)
        is_last = torch.arange(usable.shape[1], device=usable.device) == last
        nothing = usable.any(-1) & ~(observed & look.keep).flatten(1).any(-1)
        # in place of what the views keep, not added to it: a crop shows no more steps than it says
        return look._replace(keep=torch.where(nothing.view(-1, 1, 1), is_last.unsqueeze(-1), look.keep))

    def max_steps(self, n_steps: int) -> int:
        shown = n_steps
        for view in self.views:
            shown = min(shown, view.max_steps(n_steps))
        return max(shown, 1)


def look_at(inputs: StayInputs, look: Look, dynamic: Bool[Tensor, "#D"]) -> StayInputs:
    """What ``look`` shows of stays."""
    seen = dynamic | look.statics.unsqueeze(-1)
    x, mask, counts = (cells.masked_fill(~seen, 0) for cells in (inputs.x, inputs.mask, inputs.counts))
    noisy = x + (look.noise * dynamic).to(x.dtype)
    times = inputs.times + look.shift.to(inputs.times.dtype)
    return hide(StayInputs(noisy, mask, inputs.padding_mask, times, counts), look.keep, dynamic)
