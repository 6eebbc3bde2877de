"""Supervised contrastive pretraining: stays of one class are alike."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from ..base import BaseSSLObjective, SSLConfig, register_objective
from ..checks import require_at_least, require_temperature
from ..encoding import pool_stay
from ..losses import supervised_contrastive_loss
from ..projector import Projector
from ..viewing import PairViewing, ViewDraw
from ..views import ViewConfig


@dataclass(kw_only=True)
class SupervisedContrastiveConfig(SSLConfig):
    """Options of :class:`SupervisedContrastive`.

    Args:
        temperature: of the cross-entropy.
        views: see :class:`~slices.ssl.views.ViewConfig`.
        projector_hidden, projector_dim: widths of the projector.
    """

    name: str = "supervised_contrastive"
    temperature: float = 0.1
    views: ViewConfig = field(default_factory=ViewConfig)
    projector_hidden: int = 128
    projector_dim: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        require_temperature(self, "temperature")
        require_at_least(self, 1, "projector_hidden", "projector_dim")


@register_objective("supervised_contrastive", SupervisedContrastiveConfig)
class SupervisedContrastive(BaseSSLObjective):
    """Supervised contrastive learning (Khosla et al., 2020), for pretraining on stays with labels.

    Views as in :class:`~slices.ssl.Contrastive`; positives are all views of the stays with the same label. A
    stay without one (NaN, or False in ``label_mask``) has its own other view alone; so has every stay of a
    batch without labels. See :func:`~slices.ssl.losses.supervised_contrastive_loss`.

    >>> encoder = nn.Linear(3, 8)
    >>> encoder.output_dim = 8
    >>> objective = SupervisedContrastive(encoder, SupervisedContrastiveConfig())
    >>> x, mask = torch.randn(4, 6, 3), torch.rand(4, 6, 3) > 0.5
    >>> loss, metrics = objective(x, mask, label=torch.tensor([0, 1, 1, 0]))
    >>> loss.shape, metrics
    (torch.Size([]), {})
    """

    config: SupervisedContrastiveConfig

    def __init__(self, encoder: nn.Module, config: SupervisedContrastiveConfig) -> None:
        super().__init__(encoder, config, PairViewing(config.views))
        sizes = (self.read.output_dim, config.projector_hidden, config.projector_dim)
        self.projector = Projector(*sizes, norm=False)

    @property
    def reads_labels(self) -> bool:
        """Yes."""
        return True

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T D"],
        padding_mask: Bool[Tensor, "B T"] | None = None,
        times: Float[Tensor, "B T"] | None = None,
        counts: Float[Tensor, "B T D"] | None = None,
        draw: ViewDraw | None = None,
        label: Shaped[Tensor, "B"] | None = None,
        label_mask: Bool[Tensor, "B"] | None = None,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """As every objective's, with ``label``, one class a stay, and where it is known.

        Raises:
            ValueError: labels of another shape.
        """
        seen = self.see(x, mask, padding_mask, times, counts, draw)
        first, second = self.projector(pool_stay(seen.tokens), seen.valid.repeat(2)).chunk(2)
        label, labelled = self._labels(x, label, label_mask)
        options = (labelled, seen.valid, self.config.temperature)
        return supervised_contrastive_loss(first, second, label, *options), {}

    def _labels(
        self, x: Tensor, label: Tensor | None, label_mask: Tensor | None
    ) -> tuple[Float[Tensor, "B"], Bool[Tensor, "B"]]:
        label = x.new_full(x.shape[:1], torch.nan) if label is None else label.float()
        if label.shape != x.shape[:1]:
            raise ValueError(
                f"supervised_contrastive needs one class a stay, of shape {tuple(x.shape[:1])}, got "
                f"{tuple(label.shape)}: choose a binary or multiclass task"
            )
        if label_mask is not None and label_mask.shape != label.shape:
            raise ValueError(
                f"label_mask has shape {tuple(label_mask.shape)}, label {tuple(label.shape)}: give one "
                "entry a stay"
            )
        known = ~label.isnan()
        return label.nan_to_num(-1.0), known if label_mask is None else known & label_mask.bool()
