"""What an objective has encoded of a batch, before it scores that.

Objectives that view a batch alike can share the view and what the encoder makes of it (``sum``).
Letters: B stays, T time steps, D variables, N tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .draws import uniform
from .encoding import StayInputs, Tokens, hide
from .masking import MaskDraw, MaskMode, Ratio, draw_keep, max_hidden_steps, max_visible_steps
from .views import Look, ViewConfig, look_at, make_view

Encode = Callable[[StayInputs, int | None], Tokens]
"""Gives the tokens of stays of which none has more real steps than the number, where there is one."""


class Viewing(nn.Module):
    """Draws what is shown of a batch, shows it to the encoder, and keeps what an objective scores.

    Attributes:
        key: viewings of the same key are the same.
    """

    key: tuple[Any, ...]

    def draw(
        self, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], generator: torch.Generator | None = None
    ) -> tuple[Any, ...]:
        """All the chance in one step: a (nested) named tuple of tensors that lead with B."""
        raise NotImplementedError(f"{type(self).__name__} defines no draw")

    def forward(self, encode: Encode, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], draw: Any) -> Any:
        """What is scored."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")


class Masked(NamedTuple):
    """Stays, which of their dynamic cells were hidden, and the tokens of what was not."""

    inputs: StayInputs
    hidden: Bool[Tensor, "B T D"]
    tokens: Tokens
    max_hidden_steps: int
    dynamic: Bool[Tensor, "#D"]


class MaskedViewing(Viewing):
    """Hides a part of each stay with two usable steps or more; see :mod:`~slices.ssl.masking`.

    Where it is asked whether something was observed, ``only_observed`` keeps the gaps from telling it: see
    :func:`~slices.ssl.encoding.hide`.
    """

    def __init__(
        self, mode: MaskMode, ratio: Ratio, block_length: int = 1, only_observed: bool = False
    ) -> None:
        super().__init__()
        self.key = ("masked", mode, ratio, block_length, only_observed)
        self.mode, self.ratio, self.block_length = mode, ratio, block_length
        self.only_observed = only_observed

    def draw(
        self, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], generator: torch.Generator | None = None
    ) -> MaskDraw:
        mask, real = inputs.mask, inputs.padding_mask
        return MaskDraw(draw_keep(self.mode, mask, real, dynamic, self.ratio, self.block_length, generator))

    def forward(
        self, encode: Encode, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], draw: MaskDraw
    ) -> Masked:
        shown, n_steps = hide(inputs, draw.keep, dynamic, self.only_observed), inputs.x.shape[1]
        enough = (inputs.mask & dynamic).any(-1).sum(-1, keepdim=True) >= 2
        hidden = (inputs.padding_mask & enough).unsqueeze(-1) & dynamic & ~draw.keep
        most_visible, most_hidden = self.bounds(n_steps)
        return Masked(
            inputs, hidden.expand(inputs.x.shape), encode(shown, most_visible), most_hidden, dynamic
        )

    def bounds(self, n_steps: int) -> tuple[int, int]:
        """The most steps that can be left, and the most of which something can be hidden."""
        bounds = (bound(self.mode, self.ratio, n_steps) for bound in (max_visible_steps, max_hidden_steps))
        return next(bounds), next(bounds)


class Pair(NamedTuple):
    """Two views of each stay, the first ones before the second ones, and their tokens."""

    views: StayInputs
    tokens: Tokens
    max_steps: int
    shown: Bool[Tensor, "2*B T"]
    """The steps at which a view shows an observation, of the stays that have two such steps."""

    @property
    def valid(self) -> Bool[Tensor, "B"]:
        """The stays that count: those of which both views show an observation."""
        first, second = self.shown.any(-1).chunk(2)
        return first & second


class ViewDraw(NamedTuple):
    """Two looks at the same stays."""

    first: Look
    second: Look


class PairViewing(Viewing):
    """Two views of each stay. One of them, drawn by lot, has its statics, and the other has not.

    The same in both, and seldom in two stays, statics would by themselves tell most stays of a batch apart
    and leave nothing to learn; in one, they have to say something of the course that the other shows.
    """

    def __init__(self, config: ViewConfig) -> None:
        super().__init__()
        self.key = ("pair", *vars(config).items())
        self.view = make_view(config)

    def draw(
        self, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], generator: torch.Generator | None = None
    ) -> ViewDraw:
        first_has = uniform((len(inputs.x), 1), inputs.x.device, generator) < 0.5
        looks = (self.view(inputs, dynamic, generator) for _ in range(2))
        return ViewDraw(
            *(look._replace(statics=has) for look, has in zip(looks, (first_has, ~first_has), strict=True))
        )

    def forward(
        self, encode: Encode, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], draw: ViewDraw
    ) -> Pair:
        views = stacked([look_at(inputs, look, dynamic) for look in draw])
        max_steps = self.view.max_steps(inputs.x.shape[1])
        return Pair(views, encode(views, max_steps), max_steps, shown_steps(views, inputs, dynamic))


class Crops(NamedTuple):
    """Two wide views of each stay and L narrow ones."""

    wide: Pair
    narrow: StayInputs
    tokens: Tokens
    shown: Bool[Tensor, "L B"]

    @property
    def valid(self) -> Bool[Tensor, "L+2 B"]:
        """Which views show an observation, of stays whose wide ones both do; the wide ones first."""
        both = self.wide.valid
        return torch.cat([both.expand(2, -1), self.shown & both])


class CropsDraw(NamedTuple):
    """Looks at the same stays."""

    wide: ViewDraw
    narrow: tuple[Look, ...]


class CropsViewing(Viewing):
    """Two wide views of each stay, and some narrow ones (the multi-crop of DINO and LeJEPA).

    A narrow one is like a wide one, with a smaller crop, and has its statics by lot.
    """

    def __init__(self, config: ViewConfig, narrow_crop: float, n_narrow: int) -> None:
        super().__init__()
        self.key = ("crops", narrow_crop, n_narrow, *vars(config).items())
        self.wide, self.n_narrow = PairViewing(config), n_narrow
        self.narrow = make_view(replace(config, crop=narrow_crop))

    def draw(
        self, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], generator: torch.Generator | None = None
    ) -> CropsDraw:
        wide = self.wide.draw(inputs, dynamic, generator)
        has = uniform((len(inputs.x), self.n_narrow), inputs.x.device, generator) < 0.5
        looks = (self.narrow(inputs, dynamic, generator) for _ in range(self.n_narrow))
        narrow = tuple(
            look._replace(statics=one) for look, one in zip(looks, torch.split(has, 1, 1), strict=True)
        )
        return CropsDraw(wide, narrow)

    def forward(
        self, encode: Encode, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], draw: CropsDraw
    ) -> Crops:
        wide = self.wide(encode, inputs, dynamic, draw.wide)
        narrow = stacked([look_at(inputs, look, dynamic) for look in draw.narrow])
        tokens = encode(narrow, self.narrow.max_steps(inputs.x.shape[1]))
        shown = shown_steps(narrow, inputs, dynamic).any(-1).view(self.n_narrow, -1)
        return Crops(wide, narrow, tokens, shown)


class Cut(NamedTuple):
    """Stays, the hour at which each is cut, and the tokens of what lies before it."""

    inputs: StayInputs
    hour: Float[Tensor, "B 1"]
    """Infinite where a stay was shown whole."""
    tokens: Tokens


class CutDraw(NamedTuple):
    """The step at whose time each stay is cut: what is then or later is hidden. T: nothing is."""

    step: Int[Tensor, "B 1"]

    def hour(self, times: Float[Tensor, "B T"]) -> Float[Tensor, "B 1"]:
        """When that is; infinite where nothing is hidden."""
        n_steps = times.shape[1]
        hour = times.float().gather(1, self.step.clamp(max=n_steps - 1))
        return hour.masked_fill(self.step == n_steps, torch.inf)


class CutViewing(Viewing):
    """Shows each stay up to the time of a random step, and hides all from there on.

    Each stay is cut at a step with an observation that comes after another one with an observation, and not
    before ``min_hours`` after the first, where there is such a step; else at the last one with an
    observation; a stay with fewer than two of these is shown whole.
    """

    def __init__(self, min_hours: float) -> None:
        super().__init__()
        self.key = ("cut", min_hours)
        self.min_hours = min_hours

    def draw(
        self, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], generator: torch.Generator | None = None
    ) -> CutDraw:
        usable = (inputs.mask & dynamic).any(-1)
        times = inputs.times.float()
        first = times.masked_fill(~usable, torch.inf).amin(-1, keepdim=True)
        later = usable & (times > first)
        late = later & (times >= first + self.min_hours)
        chance = uniform(usable.shape, usable.device, generator)
        drawn = chance.masked_fill(~late, -1.0).argmax(-1, keepdim=True)
        last = times.masked_fill(~later, -torch.inf).argmax(-1, keepdim=True)
        step = torch.where(late.any(-1, keepdim=True), drawn, last)
        return CutDraw(step.masked_fill(~later.any(-1, keepdim=True), usable.shape[1]))

    def forward(self, encode: Encode, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], draw: CutDraw) -> Cut:
        hour = draw.hour(inputs.times)
        keep = (inputs.times < hour).unsqueeze(-1)
        return Cut(inputs, hour, encode(hide(inputs, keep, dynamic), None))


class CutMasked(NamedTuple):
    """One view of stays, as what is scored of a cut and as what is scored of a mask: the same tokens."""

    cut: Cut
    masked: Masked


class CutMaskedDraw(NamedTuple):
    """Where each stay is cut, and what stays visible before that."""

    cut: CutDraw
    masked: MaskDraw


class CutMaskedViewing(Viewing):
    """Shows each stay up to the time of a random step, less what a mask hides of it.

    Hidden is then all that lies after the cut, and a part of what lies before it.
    """

    def __init__(self, cut: CutViewing, masked: MaskedViewing) -> None:
        super().__init__()
        self.key = ("cut, masked", cut.key, masked.key)
        self.cut, self.masked = cut, masked

    def draw(
        self, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], generator: torch.Generator | None = None
    ) -> CutMaskedDraw:
        cut = self.cut.draw(inputs, dynamic, generator)
        before = inputs.times < cut.hour(inputs.times)
        mask, real = inputs.mask & before.unsqueeze(-1), inputs.padding_mask & before
        past = inputs._replace(mask=mask, padding_mask=real)
        return CutMaskedDraw(cut, self.masked.draw(past, dynamic, generator))

    def forward(
        self, encode: Encode, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], draw: CutMaskedDraw
    ) -> CutMasked:
        hour = draw.cut.hour(inputs.times)
        keep = draw.masked.keep & (inputs.times < hour).unsqueeze(-1)
        seen = self.masked(encode, inputs, dynamic, MaskDraw(keep))
        seen = seen._replace(max_hidden_steps=inputs.x.shape[1])
        return CutMasked(Cut(inputs, hour, seen.tokens), seen)


def stacked(views: list[StayInputs]) -> StayInputs:
    """The stays of some views, those of one after those of the other."""
    return StayInputs(*(torch.cat(fields) for fields in zip(*views, strict=True)))


def shown_steps(views: StayInputs, inputs: StayInputs, dynamic: Bool[Tensor, "#D"]) -> Bool[Tensor, "V*B T"]:
    """The steps at which views show an observation; none of stays with fewer than two such steps."""
    enough = (inputs.mask & dynamic).any(-1).sum(-1) >= 2
    n_views = len(views.x) // len(inputs.x)
    return (views.mask & dynamic).any(-1) & enough.repeat(n_views).unsqueeze(-1)
