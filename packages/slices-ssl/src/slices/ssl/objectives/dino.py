"""DINO: a student's distributions over prototypes follow a teacher's of other views."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..base import BaseSSLObjective, SSLConfig, register_objective
from ..checks import require, require_at_least, require_temperature
from ..distributed import rank_mean
from ..encoding import pool_stay
from ..losses import dino_loss
from ..teacher import Teacher, cosine_momentum
from ..viewing import Crops, CropsViewing
from ..views import ViewConfig


@dataclass(kw_only=True)
class DINOConfig(SSLConfig):
    """Options of :class:`DINO`.

    Args:
        views: of the two wide views, see :class:`~slices.ssl.views.ViewConfig`.
        narrow_crop: the share of real steps that a narrow view shows.
        n_narrow: narrow views of each stay.
        n_prototypes: outputs K.
        student_temperature, teacher_temperature: of their distributions.
        momentum: of the teacher, at the start; it rises to 1 over the run.
        centre_momentum: of the centre that is taken off the teacher's outputs.
        head_hidden, head_dim: widths of the head, of three layers, before the prototypes.
    """

    name: str = "dino"
    views: ViewConfig = field(default_factory=ViewConfig)
    narrow_crop: float = 0.3
    n_narrow: int = 2
    n_prototypes: int = 256
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    momentum: float = 0.996
    centre_momentum: float = 0.9
    head_hidden: int = 128
    head_dim: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "narrow_crop", 0 < self.narrow_crop <= 1, "above 0 and at most 1")
        require_at_least(self, 1, "n_narrow", "head_hidden", "head_dim")
        require_at_least(self, 2, "n_prototypes")
        require_temperature(self, "student_temperature", "teacher_temperature")
        for name in ("momentum", "centre_momentum"):
            require(self, name, 0 <= getattr(self, name) <= 1, "from 0 to 1")


class PrototypeHead(nn.Module):
    """Three layers, then the cosine similarity to each prototype (section 3.1, "Network architecture")."""

    def __init__(self, input_dim: int, hidden: int, width: int, n_prototypes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(input_dim, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, width),
        )
        self.prototypes = nn.Parameter(torch.randn(n_prototypes, width))

    def forward(self, rows: Float[Tensor, "N H"]) -> Float[Tensor, "N K"]:
        direction = F.normalize(self.layers(rows).float(), dim=-1)
        return direction @ F.normalize(self.prototypes.float(), dim=-1).T


@register_objective("dino", DINOConfig)
class DINO(BaseSSLObjective):
    """Self-distillation with no labels (Caron et al., 2021, section 3.1), on crops of stays.

    The student sees two wide and some narrow views, the teacher, an average of the student over training, the
    wide ones. The teacher's outputs are centred, by an average over batches that moves once an optimizer
    step, and sharpened. Departures: the teacher's temperature is constant.

    Metrics: ``teacher_entropy``, in nats, of the teacher's mean distribution: it nears 0 where all stays
    fall onto one prototype; log K is uniform.

    >>> encoder = nn.Linear(3, 8)
    >>> encoder.output_dim = 8
    >>> objective = DINO(encoder, DINOConfig(n_prototypes=16))
    >>> loss, metrics = objective(torch.randn(4, 6, 3), torch.rand(4, 6, 3) > 0.5)
    >>> loss.shape, sorted(metrics)
    (torch.Size([]), ['teacher_entropy'])
    """

    config: DINOConfig
    centre: Tensor
    next_centre: Tensor

    def __init__(self, encoder: nn.Module, config: DINOConfig) -> None:
        super().__init__(encoder, config, CropsViewing(config.views, config.narrow_crop, config.n_narrow))
        sizes = (config.head_hidden, config.head_dim, config.n_prototypes)
        self.head = PrototypeHead(self.read.output_dim, *sizes)
        self.teacher, self.teacher_head = Teacher(encoder), Teacher(self.head)
        self.register_buffer("centre", torch.zeros(config.n_prototypes))
        self.register_buffer("next_centre", torch.zeros(config.n_prototypes))

    def on_optimizer_step(self, step: int, total_steps: int) -> None:
        """Move the teacher and the centre."""
        momentum = cosine_momentum(self.config.momentum, step, total_steps)
        self.teacher.update(self.encoder, momentum)
        self.teacher_head.update(self.head, momentum)
        self.centre.lerp_(self.next_centre, 1 - self.config.centre_momentum)

    def score(self, seen: Crops) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        config, valid = self.config, seen.valid
        rows = torch.cat([pool_stay(seen.wide.tokens), pool_stay(seen.tokens)])
        student = self.head(rows).view(*valid.shape, -1)
        with torch.no_grad():
            tokens = self.read(self.teacher.model, seen.wide.views, seen.wide.max_steps)
            teacher = self.teacher_head.model(pool_stay(tokens)).view(2, *valid.shape[1:], -1)
            self._look_at(teacher, valid[:2])
            entropy = self._entropy(teacher, valid[:2])
        temperatures = (config.student_temperature, config.teacher_temperature)
        return dino_loss(student, teacher, self.centre, valid, *temperatures), {"teacher_entropy": entropy}

    def _look_at(self, teacher: Float[Tensor, "2 B K"], valid: Bool[Tensor, "2 B"]) -> None:
        """Remember the mean of the teacher's outputs, for the centre."""
        if self.training:
            where = valid.unsqueeze(-1)
            n = rank_mean(where.sum().float())
            mean = rank_mean((teacher * where).sum((0, 1))) / n.clamp(min=1)
            self.next_centre.copy_(torch.where(n > 0, mean, self.centre.float()))

    def _entropy(self, teacher: Float[Tensor, "2 B K"], valid: Bool[Tensor, "2 B"]) -> Float[Tensor, ""]:
        share = torch.softmax((teacher - self.centre.float()) / self.config.teacher_temperature, dim=-1)
        where = valid.unsqueeze(-1)
        mean = rank_mean((share * where).sum((0, 1))) / rank_mean(where.sum().float()).clamp(min=1)
        entropy: Tensor = -torch.special.xlogy(mean, mean).sum()
        return entropy
