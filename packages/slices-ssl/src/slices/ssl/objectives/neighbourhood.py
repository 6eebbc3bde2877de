"""Neighbourhood contrast: windows of one stay that are close in time are alike.

Letters: B stays, W windows of each, N = W B windows, T time steps, D variables.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..base import BaseSSLObjective, SSLConfig, register_objective
from ..checks import require, require_at_least, require_temperature
from ..draws import uniform
from ..encoding import StayInputs, Tokens, pool_stay
from ..losses import neighbourhood_loss
from ..projector import Projector
from ..viewing import Encode, Viewing, shown_steps, stacked
from ..views import Crop, Look, ViewConfig, look_at, make_view


@dataclass(kw_only=True)
class NeighbourhoodConfig(SSLConfig):
    """Options of :class:`Neighbourhood`.

    Args:
        n_windows: of each stay, drawn at random.
        hours: windows of a stay that begin less than this apart are neighbours.
        alpha: weight of drawing neighbours together, against 1 - ``alpha`` of telling them apart.
        temperature: of the cross-entropy.
        views: of each window, where ``crop`` is the share of the stay's real steps in it.
        projector_hidden, projector_dim: widths of the projector.
    """

    name: str = "neighbourhood"
    n_windows: int = 2
    hours: float = 8.0
    alpha: float = 0.5
    temperature: float = 0.1
    views: ViewConfig = field(default_factory=lambda: ViewConfig(crop=0.4))
    projector_hidden: int = 128
    projector_dim: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 2, "n_windows")
        require(self, "hours", self.hours > 0, "above 0")
        require(self, "alpha", 0 <= self.alpha <= 1, "from 0 to 1")
        require_temperature(self, "temperature")
        require_at_least(self, 1, "projector_hidden", "projector_dim")


class WindowDraw(NamedTuple):
    """A window of each stay: the hour of its first step, 0 where it has none, and two looks at it."""

    hour: Float[Tensor, "B"]
    first: Look
    second: Look


class WindowsDraw(NamedTuple):
    """Windows of the same stays."""

    windows: tuple[WindowDraw, ...]


class Windows(NamedTuple):
    """Two views of N windows, the first ones before the second ones, and their tokens."""

    tokens: Tokens
    stay: Int[Tensor, "N"]
    hour: Float[Tensor, "N"]
    valid: Bool[Tensor, "N"]


class WindowsViewing(Viewing):
    """Some windows of each stay, two views of each; one of these, by lot, has the statics."""

    def __init__(self, n_windows: int, config: ViewConfig) -> None:
        super().__init__()
        self.key = ("windows", n_windows, *vars(config).items())
        self.n_windows = n_windows
        self.window, self.view = Crop(config.crop), make_view(replace(config, crop=1.0))

    def draw(
        self, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], generator: torch.Generator | None = None
    ) -> WindowsDraw:
        return WindowsDraw(
            tuple(self._draw_window(inputs, dynamic, generator) for _ in range(self.n_windows))
        )

    def _draw_window(
        self, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], generator: torch.Generator | None
    ) -> WindowDraw:
        first_has = uniform((len(inputs.x), 1), inputs.x.device, generator) < 0.5
        window = self.window(inputs, dynamic, generator)
        looks = (window.over(self.view(inputs, dynamic, generator)) for _ in range(2))
        first, second = (
            look._replace(statics=has) for look, has in zip(looks, (first_has, ~first_has), strict=True)
        )
        inside = window.keep.any(-1) & inputs.padding_mask
        begin = inputs.times.float().masked_fill(~inside, torch.inf).amin(-1)
        return WindowDraw(begin.masked_fill(begin.isinf(), 0.0), first, second)

    def forward(
        self, encode: Encode, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], draw: WindowsDraw
    ) -> Windows:
        hours, firsts, seconds = zip(*draw.windows, strict=True)
        views = stacked([look_at(inputs, look, dynamic) for look in (*firsts, *seconds)])
        batch = torch.arange(len(inputs.x), device=inputs.x.device)
        first, second = shown_steps(views, inputs, dynamic).any(-1).chunk(2)
        tokens = encode(views, self.window.max_steps(inputs.x.shape[1]))
        return Windows(tokens, batch.repeat(self.n_windows), torch.cat(hours), first & second)


@register_objective("neighbourhood", NeighbourhoodConfig)
class Neighbourhood(BaseSSLObjective):
    """Neighbourhood contrastive learning (Yeche et al., 2021), within stays.

    Windows of each stay are viewed twice; those of one stay that begin within ``hours`` of each other are
    neighbours, which are drawn together against all else, and told apart among themselves; see
    :func:`~slices.ssl.losses.neighbourhood_loss`. Close in time are alike also in TNC (Tonekaboni et al.,
    2021). Departures: negatives are those of the batch, not of a queue with a momentum encoder.

    >>> encoder = nn.Linear(3, 8)
    >>> encoder.output_dim = 8
    >>> objective = Neighbourhood(encoder, NeighbourhoodConfig())
    >>> loss, metrics = objective(torch.randn(4, 6, 3), torch.rand(4, 6, 3) > 0.5)
    >>> loss.shape, metrics
    (torch.Size([]), {})
    """

    config: NeighbourhoodConfig

    def __init__(self, encoder: nn.Module, config: NeighbourhoodConfig) -> None:
        super().__init__(encoder, config, WindowsViewing(config.n_windows, config.views))
        sizes = (self.read.output_dim, config.projector_hidden, config.projector_dim)
        self.projector = Projector(*sizes, norm=False)

    def score(self, seen: Windows) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        config = self.config
        first, second = self.projector(pool_stay(seen.tokens), seen.valid.repeat(2)).chunk(2)
        options = (config.hours, config.alpha, config.temperature)
        return neighbourhood_loss(first, second, seen.stay, seen.hour, seen.valid, *options), {}
