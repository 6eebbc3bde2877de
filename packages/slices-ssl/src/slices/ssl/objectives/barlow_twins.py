"""Barlow Twins: two views of a stay correlate coordinate by coordinate, and no two coordinates do."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn

from ..base import BaseSSLObjective, SSLConfig, register_objective
from ..checks import require_at_least
from ..encoding import pool_stay
from ..losses import barlow_twins_loss
from ..projector import Projector
from ..viewing import Pair, PairViewing
from ..views import ViewConfig


@dataclass(kw_only=True)
class BarlowTwinsConfig(SSLConfig):
    """Options of :class:`BarlowTwins`.

    Args:
        views: see :class:`~slices.ssl.views.ViewConfig`.
        redundancy: weight of the correlations that should be 0; the paper's lambda.
        projector_hidden, projector_dim: widths of the projector, of three layers.
    """

    name: str = "barlow_twins"
    views: ViewConfig = field(default_factory=ViewConfig)
    redundancy: float = 0.005
    projector_hidden: int = 256
    projector_dim: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "redundancy")
        require_at_least(self, 1, "projector_hidden", "projector_dim")


@register_objective("barlow_twins", BarlowTwinsConfig)
class BarlowTwins(BaseSSLObjective):
    """Barlow Twins (Zbontar et al., 2021) on views of stays.

    See :func:`~slices.ssl.losses.barlow_twins_loss`.

    >>> import torch
    >>> encoder = nn.Linear(3, 8)
    >>> encoder.output_dim = 8
    >>> objective = BarlowTwins(encoder, BarlowTwinsConfig())
    >>> loss, metrics = objective(torch.randn(4, 6, 3), torch.rand(4, 6, 3) > 0.5)
    >>> loss.shape, metrics
    (torch.Size([]), {})
    """

    config: BarlowTwinsConfig

    def __init__(self, encoder: nn.Module, config: BarlowTwinsConfig) -> None:
        super().__init__(encoder, config, PairViewing(config.views))
        hidden, width = config.projector_hidden, config.projector_dim
        self.projector = Projector(self.read.output_dim, hidden, width, n_layers=3)

    def score(self, seen: Pair) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        valid = seen.valid
        first, second = self.projector(pool_stay(seen.tokens), valid.repeat(2)).chunk(2)
        return barlow_twins_loss(first, second, valid, self.config.redundancy), {}
