"""SMART's pretraining: a teacher's latents at cells that are hidden, few or many of them."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from ..base import BaseSSLObjective, SSLConfig, register_objective
from ..checks import require, require_at_least, require_heads, require_layers
from ..latent import LatentPrediction
from ..viewing import Masked, MaskedViewing


@dataclass(kw_only=True)
class SMARTConfig(SSLConfig):
    """Options of :class:`SMART`.

    Args:
        max_mask_ratio: of a stay's cells a share is hidden that is drawn between 0 and this.
        max_targets: tokens to predict in a stay at most; of more hidden ones as many, evenly spread.
        momentum: of the teacher, at the start; it rises to 1 over the run.
        predictor_dim, predictor_layers, predictor_heads: size of the predictor.
    """

    name: str = "smart"
    max_mask_ratio: float = 0.75
    max_targets: int = 128
    momentum: float = 0.996
    predictor_dim: int = 64
    predictor_layers: int = 1
    predictor_heads: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "max_mask_ratio", 0 < self.max_mask_ratio <= 1, "above 0 and at most 1")
        require_at_least(self, 1, "max_targets")
        require_layers(self, "predictor_layers")
        require(self, "momentum", 0 <= self.momentum <= 1, "from 0 to 1")
        require_heads(self, "predictor_dim", "predictor_heads")


@register_objective("smart", SMARTConfig)
class SMART(BaseSSLObjective):
    """The pretraining of SMART (Yu et al., 2024, section 3.4), for any encoder.

    Cells of a stay are hidden, a share drawn from U[0, 0.75]; from what is left a predictor tells the latents
    that a teacher, an average of the encoder over training, gives the hidden cells when it sees the whole
    stay: of the cell where the encoder has a token for each, else of its step, else of the stay. Departures:
    the predictor asks what is visible by cross-attention, where the paper has a perceptron on the tokens that
    its own encoder keeps of hidden cells; and targets are layer-normed.

    Metrics: ``target_std``, as in :class:`~slices.ssl.JEPA`.

    >>> import torch
    >>> encoder = nn.Linear(3, 8)
    >>> encoder.output_dim = 8
    >>> objective = SMART(encoder, SMARTConfig())
    >>> loss, metrics = objective(torch.randn(4, 6, 3), torch.rand(4, 6, 3) > 0.5)
    >>> loss.shape, sorted(metrics)
    (torch.Size([]), ['target_std'])
    """

    config: SMARTConfig

    def __init__(self, encoder: nn.Module, config: SMARTConfig) -> None:
        super().__init__(encoder, config, MaskedViewing("element", (0.0, config.max_mask_ratio)))
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
