"""Masked autoencoding: hide part of a stay, encode the rest, predict the hidden values."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from ..base import BaseSSLObjective, Predicted, SSLConfig, register_objective
from ..checks import require_at_least, require_choice, require_fraction, require_heads, require_layers
from ..losses import ValueLoss
from ..masking import MaskMode
from ..reconstruction import Reconstruction, Weighting
from ..viewing import Masked, MaskedViewing


@dataclass(kw_only=True)
class MAEConfig(SSLConfig):
    """Options of :class:`MAE`.

    Args:
        mask_ratio: the share of a stay to hide, of what ``mask_mode`` hides.
        mask_mode: hide real steps (``"time"``), runs of them (``"block"``), cells (``"element"``),
            observed variables (``"variable"``), or one of these in each stay, by lot (``"mixed"``).
        block_length: steps in a run, for ``"block"``.
        value_loss: ``"mse"`` or ``"huber"``, of the hidden observed values.
        weighting: each hidden value counts once (``"cell"``), or each variable does (``"variable"``).
        presence_weight: weight of predicting *whether* a hidden cell was observed. Small ones at most help.
            With it steps at which nothing was observed are left out at the input, so that gaps do not tell.
        decoder_dim, decoder_layers, decoder_heads: size of the decoder.
    """

    name: str = "mae"
    mask_ratio: float = 0.5
    mask_mode: MaskMode = "time"
    block_length: int = 6
    value_loss: ValueLoss = "mse"
    weighting: Weighting = "cell"
    presence_weight: float = 0.0
    decoder_dim: int = 64
    decoder_layers: int = 1
    decoder_heads: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "mask_ratio")
        require_choice(self, "mask_mode", MaskMode)
        require_choice(self, "value_loss", ValueLoss)
        require_choice(self, "weighting", Weighting)
        require_at_least(self, 1, "block_length")
        require_layers(self, "decoder_layers")
        require_at_least(self, 0, "presence_weight")
        require_heads(self, "decoder_dim", "decoder_heads")


@register_objective("mae", MAEConfig)
class MAE(BaseSSLObjective):
    """Masked autoencoder on values (He et al., 2022, "Masked Autoencoders Are Scalable Vision Learners").

    The encoder sees only what is not hidden; a light cross-attention decoder asks its tokens for the
    hidden steps. The loss is the error of the hidden observed dynamic values, of which each counts
    once: mean over cells of (x - x_hat)^2 (section 3), for time series as in Ti-MAE (Li et al., 2023).

    Metrics: ``reconstruction`` the value loss alone, ``hidden`` the share of observed
    dynamic cells that was hidden, and ``presence`` the presence loss where it has weight.

    Args:
        encoder: any encoder; see :class:`~slices.ssl.encoding.Encoder`.
        config: see :class:`MAEConfig`.

    >>> import torch
    >>> encoder = nn.Linear(3, 8)
    >>> encoder.output_dim = 8
    >>> objective = MAE(encoder, MAEConfig(d_input=3))
    >>> x = torch.randn(4, 6, 3)
    >>> loss, metrics = objective(x, torch.rand(4, 6, 3) > 0.5)
    >>> loss.shape, sorted(metrics)
    (torch.Size([]), ['hidden', 'reconstruction'])
    """

    config: MAEConfig

    def __init__(self, encoder: nn.Module, config: MAEConfig) -> None:
        how = (config.mask_mode, config.mask_ratio, config.block_length, config.presence_weight > 0)
        super().__init__(encoder, config, MaskedViewing(*how))
        d_input = self.need_d_input("predicts values")
        self.reconstruct = Reconstruction(
            self.read.output_dim,
            d_input,
            width=config.decoder_dim,
            n_layers=config.decoder_layers,
            n_heads=config.decoder_heads,
            presence_weight=config.presence_weight,
            value=config.value_loss,
            weighting=config.weighting,
        )

    def score(self, seen: Masked) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        loss, metrics = self.reconstruct(seen)
        return loss, metrics

    def predicted(self, seen: Masked) -> Predicted:
        return self.reconstruct.predicted(seen)
