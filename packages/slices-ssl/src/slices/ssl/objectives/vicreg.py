"""VICReg: two views of a stay alike, without negatives."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn

from ..base import BaseSSLObjective, SSLConfig, register_objective
from ..checks import require_at_least
from ..encoding import pool_stay
from ..losses import masked_mean, vicreg_loss
from ..projector import Projector
from ..viewing import Pair, PairViewing
from ..views import ViewConfig


@dataclass(kw_only=True)
class VICRegConfig(SSLConfig):
    """Options of :class:`VICReg`.

    Args:
        views: see :class:`~slices.ssl.views.ViewConfig`.
        invariance, variance, covariance: weights of the three terms; the paper's.
        projector_hidden, projector_dim: widths of the expander, of three layers.
    """

    name: str = "vicreg"
    views: ViewConfig = field(default_factory=ViewConfig)
    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    projector_hidden: int = 256
    projector_dim: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "invariance", "variance", "covariance")
        require_at_least(self, 1, "projector_hidden", "projector_dim")


@register_objective("vicreg", VICRegConfig)
class VICReg(BaseSSLObjective):
    """VICReg (Bardes et al., 2022, equations 1 to 6) on views of stays.

    See :func:`~slices.ssl.losses.vicreg_loss`.

    Metrics: ``distance``, the mean squared distance of two views, per coordinate.

    >>> import torch
    >>> encoder = nn.Linear(3, 8)
    >>> encoder.output_dim = 8
    >>> objective = VICReg(encoder, VICRegConfig())
    >>> loss, metrics = objective(torch.randn(4, 6, 3), torch.rand(4, 6, 3) > 0.5)
    >>> loss.shape, sorted(metrics)
    (torch.Size([]), ['distance'])
    """

    config: VICRegConfig

    def __init__(self, encoder: nn.Module, config: VICRegConfig) -> None:
        super().__init__(encoder, config, PairViewing(config.views))
        hidden, width = config.projector_hidden, config.projector_dim
        self.projector = Projector(self.read.output_dim, hidden, width, n_layers=3)

    def score(self, seen: Pair) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        config, valid = self.config, seen.valid
        first, second = self.projector(pool_stay(seen.tokens), valid.repeat(2)).chunk(2)
        loss = vicreg_loss(first, second, valid, config.invariance, config.variance, config.covariance)
        distance = masked_mean((first.detach() - second.detach()).float().square().mean(-1), valid)
        return loss, {"distance": distance}
