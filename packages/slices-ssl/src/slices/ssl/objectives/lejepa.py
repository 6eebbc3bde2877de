"""LeJEPA: views of a stay agree, and embeddings are an isotropic Gaussian; no teacher, no predictor."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..base import BaseSSLObjective, SSLConfig, register_objective
from ..checks import require, require_at_least
from ..encoding import pool_stay
from ..losses import masked_mean, sigreg_loss
from ..projector import Projector
from ..viewing import Crops, CropsViewing
from ..views import ViewConfig


@dataclass(kw_only=True)
class LeJEPAConfig(SSLConfig):
    """Options of :class:`LeJEPA`.

    Args:
        views: of the two wide views, see :class:`~slices.ssl.views.ViewConfig`.
        narrow_crop: the share of real steps that a narrow view shows.
        n_narrow: narrow views of each stay.
        weight: of the regularisation, against 1 - ``weight`` of the agreement; the paper's lambda.
        n_directions: in which the distribution of embeddings is looked at, others in each step.
        projector_hidden, projector_dim: widths of the projector, of three layers.
    """

    name: str = "lejepa"
    views: ViewConfig = field(default_factory=ViewConfig)
    narrow_crop: float = 0.3
    n_narrow: int = 2
    weight: float = 0.05
    n_directions: int = 256
    projector_hidden: int = 256
    projector_dim: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "narrow_crop", 0 < self.narrow_crop <= 1, "above 0 and at most 1")
        require(self, "weight", 0 < self.weight < 1, "between 0 and 1, both excluded")
        require_at_least(self, 1, "n_narrow", "n_directions", "projector_hidden", "projector_dim")


@register_objective("lejepa", LeJEPAConfig)
class LeJEPA(BaseSSLObjective):
    """LeJEPA (Balestriero & LeCun, 2025, section 5): (1 - lambda) agreement + lambda SIGReg.

    Agreement is the mean squared distance of every view's projection from the mean of the wide views';
    SIGReg (:func:`~slices.ssl.losses.sigreg_loss`) is averaged over views.

    Metrics: ``agreement`` and ``gaussianity``, the two terms.

    >>> encoder = nn.Linear(3, 8)
    >>> encoder.output_dim = 8
    >>> objective = LeJEPA(encoder, LeJEPAConfig())
    >>> loss, metrics = objective(torch.randn(4, 6, 3), torch.rand(4, 6, 3) > 0.5)
    >>> loss.shape, sorted(metrics)
    (torch.Size([]), ['agreement', 'gaussianity'])
    """

    config: LeJEPAConfig
    directions: Tensor

    def __init__(self, encoder: nn.Module, config: LeJEPAConfig) -> None:
        super().__init__(encoder, config, CropsViewing(config.views, config.narrow_crop, config.n_narrow))
        hidden, width = config.projector_hidden, config.projector_dim
        self.projector = Projector(self.read.output_dim, hidden, width, n_layers=3)
        self.register_buffer("directions", _directions(0, config.n_directions, width))

    def on_optimizer_step(self, step: int, total_steps: int) -> None:
        """Turn to other directions, the same ones on every rank."""
        n, width = self.directions.shape
        self.directions.copy_(_directions(step, n, width, self.directions.device))

    def score(self, seen: Crops) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        valid, weight = seen.valid, self.config.weight
        rows = torch.cat([pool_stay(seen.wide.tokens), pool_stay(seen.tokens)])
        views = self.projector(rows, valid.flatten()).float().view(*valid.shape, -1)
        agreement = masked_mean((views - views[:2].mean(0)).square().mean(-1), valid)
        of_views = [
            sigreg_loss(*view) for view in zip(views, [self.directions] * len(views), valid, strict=True)
        ]
        gaussianity = torch.stack(of_views).mean()
        metrics = {"agreement": agreement.detach(), "gaussianity": gaussianity.detach()}
        return (1 - weight) * agreement + weight * gaussianity, metrics


def _directions(seed: int, n: int, width: int, device: torch.device | str = "cpu") -> Float[Tensor, "M P"]:
    """Drawn where they are used, so that nothing waits for a copy."""
    generator = torch.Generator(device).manual_seed(seed)
    return F.normalize(torch.randn(n, width, generator=generator, device=device), dim=-1)
