"""Contrastive learning: two looks at one stay should be nearer to each other than to all else.

Letters: B stays, T time steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from ..base import BaseSSLObjective, SSLConfig, register_objective
from ..checks import require_at_least, require_choice, require_temperature
from ..encoding import pool_stay, pool_steps
from ..losses import Contrast, instance_contrast, masked_mean, temporal_contrast
from ..projector import Projector
from ..viewing import Pair, PairViewing
from ..views import ViewConfig

ContrastMode = Literal["instance", "temporal"]


@dataclass(kw_only=True)
class ContrastiveConfig(SSLConfig):
    """Options of :class:`Contrastive`.

    Args:
        mode: tell a stay from other stays (``"instance"``), or a step from the stay's other steps
            (``"temporal"``); there the views' ``crop`` is above a half, as they must overlap.
        temperature: of the cross-entropy.
        views: see :class:`~slices.ssl.views.ViewConfig`.
        projector_hidden, projector_dim: widths of the projector.
    """

    name: str = "contrastive"
    mode: ContrastMode = "instance"
    temperature: float = 0.1
    views: ViewConfig = field(default_factory=ViewConfig)
    projector_hidden: int = 128
    projector_dim: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "mode", ContrastMode)
        require_temperature(self, "temperature")
        require_at_least(self, 1, "projector_hidden", "projector_dim")
        if self.mode == "temporal" and self.views.crop <= 0.5:
            raise ValueError(
                f'views.crop={self.views.crop}: must be above 0.5 for mode="temporal", '
                "or views need not overlap"
            )


@register_objective("contrastive", ContrastiveConfig)
class Contrastive(BaseSSLObjective):
    """SimCLR on stays (Chen et al., 2020, "A Simple Framework for Contrastive Learning", equation 1).

    Two views of each stay (:class:`~slices.ssl.viewing.PairViewing`) are encoded, averaged over tokens and
    projected; see :func:`~slices.ssl.losses.nt_xent`. In the temporal mode the steps of a stay are told apart
    instead, as in TS2Vec (Yue et al., 2022, equation 1); see :func:`~slices.ssl.losses.temporal_nt_xent`.

    Metrics: ``alignment`` the mean cosine similarity of two views, ``accuracy`` how often the other
    view is the nearest of all.

    Args:
        encoder: any encoder; the temporal mode needs one with an embedding per step.
        config: see :class:`ContrastiveConfig`.

    >>> import torch
    >>> encoder = nn.Linear(3, 8)
    >>> encoder.output_dim = 8
    >>> objective = Contrastive(encoder, ContrastiveConfig())
    >>> loss, metrics = objective(torch.randn(4, 6, 3), torch.rand(4, 6, 3) > 0.5)
    >>> loss.shape, sorted(metrics)
    (torch.Size([]), ['accuracy', 'alignment'])
    """

    config: ContrastiveConfig

    def __init__(self, encoder: nn.Module, config: ContrastiveConfig) -> None:
        super().__init__(encoder, config, PairViewing(config.views))
        self.projector = Projector(
            self.read.output_dim, config.projector_hidden, config.projector_dim, norm=False
        )

    def score(self, seen: Pair) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        guesses = self._between_stays(seen) if self.config.mode == "instance" else self._between_steps(seen)
        cosine = guesses.positive.detach() * self.config.temperature
        metrics = {"alignment": masked_mean(cosine, guesses.valid), "accuracy": guesses.accuracy()}
        return guesses.loss(), metrics

    def _between_stays(self, seen: Pair) -> Contrast:
        first, second = self.projector(pool_stay(seen.tokens), seen.valid.repeat(2)).chunk(2)
        return instance_contrast(first, second, self.config.temperature, seen.valid)

    def _between_steps(self, seen: Pair) -> Contrast:
        self.need_steps(seen)
        steps, there = pool_steps(seen.tokens, seen.views.times, seen.views.padding_mask)
        shown = seen.shown & there
        first, second = self.projector(steps, shown).chunk(2)
        in_first, in_second = shown.chunk(2)
        return temporal_contrast(first, second, self.config.temperature, in_first & in_second)
