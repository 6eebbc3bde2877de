"""Joint-embedding prediction: from part of a stay, predict what a teacher makes of the rest."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from ..base import BaseSSLObjective, SSLConfig, register_objective
from ..checks import require, require_at_least, require_fraction, require_heads, require_layers
from ..latent import LatentPrediction
from ..viewing import Masked, MaskedViewing


@dataclass(kw_only=True)
class JEPAConfig(SSLConfig):
    """Options of :class:`JEPA`.

    Args:
        mask_ratio: the share of each stay's real steps to hide.
        block_length: they are hidden in runs of so many steps (single ones can be interpolated).
        max_targets: tokens to predict in a stay at most; of more hidden ones as many, evenly spread.
        momentum: of the teacher, at the start; it rises to 1 over the run.
        predictor_dim, predictor_layers, predictor_heads: size of the predictor.
    """

    name: str = "jepa"
    mask_ratio: float = 0.5
    block_length: int = 6
    max_targets: int = 128
    momentum: float = 0.996
    predictor_dim: int = 64
    predictor_layers: int = 2
    predictor_heads: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "mask_ratio")
        require_at_least(self, 1, "block_length", "max_targets")
        require_layers(self, "predictor_layers")
        require(self, "momentum", 0 <= self.momentum <= 1, "from 0 to 1")
        require_heads(self, "predictor_dim", "predictor_heads")


@register_objective("jepa", JEPAConfig)
class JEPA(BaseSSLObjective):
    """Joint-embedding predictive architecture (I-JEPA: Assran et al., 2023, section 3).

    The encoder sees a stay with blocks of time hidden; a predictor asks its tokens, by (time,
    variable), for the embeddings that a teacher, an average of the encoder over training, gives the
    hidden steps when it sees the whole stay; tokens of a static variable are not asked for. The distance
    is smooth L1 to the layer-normed target; see :func:`~slices.ssl.losses.latent_loss`. With an encoder
    that gives one embedding per stay, that of the whole stay is predicted.

    Metrics: ``target_std``, how far the stays' mean layer-normed targets lie apart (standard deviation
    per coordinate, at most about 1): it nears 0 when all stays collapse onto one embedding.

    Args:
        encoder: any encoder; see :class:`~slices.ssl.encoding.Encoder`.
        config: see :class:`JEPAConfig`.

    >>> import torch
    >>> encoder = nn.Linear(3, 8)
    >>> encoder.output_dim = 8
    >>> objective = JEPA(encoder, JEPAConfig(block_length=2))
    >>> loss, metrics = objective(torch.randn(4, 6, 3), torch.rand(4, 6, 3) > 0.5)
    >>> loss.shape, sorted(metrics)
    (torch.Size([]), ['target_std'])
    """

    config: JEPAConfig

    def __init__(self, encoder: nn.Module, config: JEPAConfig) -> None:
        super().__init__(encoder, config, MaskedViewing("block", config.mask_ratio, config.block_length))
        self.predict = LatentPrediction(
            encoder,
            self.read,
            self.n_token_variables,
            config.momentum,
            config.max_targets,
            config.predictor_dim,
            config.predictor_layers,
            config.predictor_heads,
        )

    def on_optimizer_step(self, step: int, total_steps: int) -> None:
        """Move the teacher."""
        self.predict.follow(self.encoder, step, total_steps)

    def score(self, seen: Masked) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        loss, metrics = self.predict(seen)
        return loss, metrics
