"""BYOL: from one view of a stay, predict a teacher's projection of the other."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..base import BaseSSLObjective, SSLConfig, register_objective
from ..checks import require, require_at_least
from ..encoding import pool_stay
from ..losses import cosine_loss
from ..projector import Projector
from ..teacher import Teacher, cosine_momentum
from ..viewing import Pair, PairViewing
from ..views import ViewConfig


@dataclass(kw_only=True)
class BYOLConfig(SSLConfig):
    """Options of :class:`BYOL`.

    Args:
        views: see :class:`~slices.ssl.views.ViewConfig`.
        momentum: of the teacher, at the start; it rises to 1 over the run.
        projector_hidden, projector_dim: widths of projector and predictor, of two layers each.
    """

    name: str = "byol"
    views: ViewConfig = field(default_factory=ViewConfig)
    momentum: float = 0.99
    projector_hidden: int = 256
    projector_dim: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "momentum", 0 <= self.momentum <= 1, "from 0 to 1")
        require_at_least(self, 1, "projector_hidden", "projector_dim")


@register_objective("byol", BYOLConfig)
class BYOL(BaseSSLObjective):
    """Bootstrap your own latent (Grill et al., 2020, section 3.1, equation 2, in both directions).

    A teacher, an average of encoder and projector over training, projects the other view; it normalises by
    running statistics, as it stays in evaluation mode, where the paper's does by those of the batch.

    Metrics: ``alignment``, the mean cosine similarity of prediction and target.

    >>> encoder = nn.Linear(3, 8)
    >>> encoder.output_dim = 8
    >>> objective = BYOL(encoder, BYOLConfig())
    >>> loss, metrics = objective(torch.randn(4, 6, 3), torch.rand(4, 6, 3) > 0.5)
    >>> loss.shape, sorted(metrics)
    (torch.Size([]), ['alignment'])
    """

    config: BYOLConfig

    def __init__(self, encoder: nn.Module, config: BYOLConfig) -> None:
        super().__init__(encoder, config, PairViewing(config.views))
        hidden, width = config.projector_hidden, config.projector_dim
        self.projector = Projector(self.read.output_dim, hidden, width)
        self.predictor = Projector(width, hidden, width)
        self.teacher, self.teacher_projector = Teacher(encoder), Teacher(self.projector)

    def on_optimizer_step(self, step: int, total_steps: int) -> None:
        """Move the teacher."""
        momentum = cosine_momentum(self.config.momentum, step, total_steps)
        self.teacher.update(self.encoder, momentum)
        self.teacher_projector.update(self.projector, momentum)

    def score(self, seen: Pair) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        valid = seen.valid.repeat(2)
        predicted = self.predictor(self.projector(pool_stay(seen.tokens), valid), valid)
        with torch.no_grad():
            tokens = self.read(self.teacher.model, seen.views, seen.max_steps)
            target = self.teacher_projector.model(pool_stay(tokens), valid)
        other = torch.cat(target.chunk(2)[::-1])
        loss = 2 * cosine_loss(predicted, other, valid)
        return loss, {"alignment": 1 - loss.detach() / 4}
