"""Contrastive learning: two looks at one stay should be nearer to each other than to all else.

Letters: B stays, T time steps, D variables, H embedding width, P projection width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .base import BaseSSLObjective, SSLConfig, register_objective
from .checks import require, require_at_least, require_choice, require_fraction
from .encoding import StayInputs, Tokens, complete, pool_stay, pool_steps, presence
from .losses import Contrast, instance_contrast, masked_mean, temporal_contrast
from .views import ViewDraw, draw_views, look, max_view_steps

ContrastMode = Literal["instance", "temporal"]


@dataclass(kw_only=True)
class ContrastiveConfig(SSLConfig):
    """Options of :class:`Contrastive`.

    Args:
        mode: tell a stay from other stays (``"instance"``), or a step from the stay's other steps
            (``"temporal"``).
        temperature: of the cross-entropy.
        crop_ratio: the share of its real steps that a view shows, in a row; above a half for
            ``"temporal"``, where the views must overlap.
        drop_ratio: the share of observed cells that a view leaves out.
        jitter: standard deviation of the noise on values, which are normalised.
        time_shift: hours by which a view is moved at most; else a step is known by its time alone.
        projector_hidden, projector_dim: widths of the projector.
    """

    name: str = "contrastive"
    mode: ContrastMode = "instance"
    temperature: float = 0.1
    crop_ratio: float = 0.6
    drop_ratio: float = 0.2
    jitter: float = 0.1
    time_shift: float = 12.0
    projector_hidden: int = 128
    projector_dim: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "mode", ContrastMode)
        require(self, "temperature", self.temperature > 0, "above 0")
        require_fraction(self, "crop_ratio")
        require(self, "drop_ratio", 0 <= self.drop_ratio < 1, "at least 0 and below 1")
        require_at_least(self, 0, "jitter", "time_shift")
        require_at_least(self, 1, "projector_hidden", "projector_dim")
        overlap = self.mode == "instance" or self.crop_ratio > 0.5
        require(self, "crop_ratio", overlap, 'above 0.5 for mode="temporal", or views need not overlap')


@register_objective("contrastive", ContrastiveConfig)
class Contrastive(BaseSSLObjective):
    """SimCLR on stays (Chen et al., 2020, "A Simple Framework for Contrastive Learning", equation 1).

    Two views of each stay (a crop of consecutive steps, cells dropped from it, values jittered, times
    moved) are encoded, averaged over tokens and projected; see :func:`~slices.ssl.losses.nt_xent`. In
    the temporal mode the steps of a stay are told apart instead, as in TS2Vec (Yue et al., 2022,
    equation 1); see :func:`~slices.ssl.losses.temporal_nt_xent`.

    One of a stay's two views, drawn by lot, has its statics, and the other has not. The same in both, and
    seldom in two stays, they would by themselves tell most stays of a batch apart and leave nothing to
    learn; in one, they have to say something of the course that the other shows.

    Metrics: ``alignment`` the mean cosine similarity of two views, ``accuracy`` how often the other
    view is the nearest of all.

    Args:
        encoder: any encoder; the temporal mode needs one with an embedding per step.
        config: see :class:`ContrastiveConfig`.

    >>> encoder = nn.Linear(3, 8)
    >>> encoder.output_dim = 8
    >>> objective = Contrastive(encoder, ContrastiveConfig())
    >>> loss, metrics = objective(torch.randn(4, 6, 3), torch.rand(4, 6, 3) > 0.5)
    >>> loss.shape, sorted(metrics)
    (torch.Size([]), ['accuracy', 'alignment'])
    """

    config: ContrastiveConfig

    def __init__(self, encoder: nn.Module, config: ContrastiveConfig) -> None:
        super().__init__(encoder, config)
        self.projector = nn.Sequential(
            nn.Linear(self.read.output_dim, config.projector_hidden),
            nn.ReLU(),
            nn.Linear(config.projector_hidden, config.projector_dim),
        )

    def draw(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T D"],
        padding_mask: Bool[Tensor, "B T"] | None = None,
        times: Float[Tensor, "B T"] | None = None,
        generator: torch.Generator | None = None,
    ) -> ViewDraw:
        config, (observed, real) = self.config, presence(mask, padding_mask)
        options = (config.crop_ratio, config.drop_ratio, config.jitter, config.time_shift)
        return draw_views(observed, real, self.dynamic, *options, generator)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T D"],
        padding_mask: Bool[Tensor, "B T"] | None = None,
        times: Float[Tensor, "B T"] | None = None,
        counts: Float[Tensor, "B T D"] | None = None,
        draw: ViewDraw | None = None,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        if draw is None:
            draw = self.draw(x, mask, padding_mask, times)
        inputs = complete(x, mask, padding_mask, times, counts)
        views = (look(inputs, view, self.dynamic) for view in draw)
        both = StayInputs(*(torch.cat(pair) for pair in zip(*views, strict=True)))
        tokens = self.encode(both, max_view_steps(self.config.crop_ratio, x.shape[1]))
        shown = (both.mask & self.dynamic).any(-1)
        contrast = self._between_stays if self.config.mode == "instance" else self._between_steps
        guesses = contrast(tokens, both, shown)
        cosine = guesses.positive.detach() * self.config.temperature
        metrics = {"alignment": masked_mean(cosine, guesses.valid), "accuracy": guesses.accuracy()}
        return guesses.loss(), metrics

    def _between_stays(self, tokens: Tokens, both: StayInputs, shown: Bool[Tensor, "2*B T"]) -> Contrast:
        first, second = self.projector(pool_stay(tokens)).chunk(2)
        seen_first, seen_second = shown.any(-1).chunk(2)
        return instance_contrast(first, second, self.config.temperature, seen_first & seen_second)

    def _between_steps(self, tokens: Tokens, both: StayInputs, shown: Bool[Tensor, "2*B T"]) -> Contrast:
        if tokens.embedding.shape[1] == 1 < shown.shape[1]:
            raise ValueError(
                f'mode="temporal" needs an embedding per step, and {type(self.encoder).__name__} gives one '
                'per stay: choose pooling="none" for it, or mode="instance"'
            )
        first, second = self.projector(pool_steps(tokens, both.times, both.padding_mask)).chunk(2)
        seen_first, seen_second = shown.chunk(2)
        return temporal_contrast(first, second, self.config.temperature, seen_first & seen_second)
