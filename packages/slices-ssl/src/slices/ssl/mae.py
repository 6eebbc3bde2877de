"""Masked autoencoding: hide part of a stay, encode the rest, predict the hidden values.

Letters: B stays, T time steps, D variables, Q hidden steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .base import BaseSSLObjective, SSLConfig, register_objective
from .checks import require_at_least, require_choice, require_fraction, require_heads
from .decoder import CrossAttentionDecoder
from .encoding import STEP, complete, first_true, hide, presence, take_steps
from .losses import ValueLoss, masked_mean, value_loss
from .masking import MaskDraw, MaskMode, draw_keep, max_hidden_steps, max_visible_steps


@dataclass(kw_only=True)
class MAEConfig(SSLConfig):
    """Options of :class:`MAE`.

    Args:
        mask_ratio: the share of a stay to hide, of what ``mask_mode`` hides.
        mask_mode: hide real steps (``"time"``), runs of them (``"block"``), observed cells
            (``"element"``) or observed variables (``"variable"``).
        block_length: steps in a run, for ``"block"``.
        value_loss: ``"mse"`` or ``"huber"``, of the hidden observed values.
        presence_weight: weight of predicting *whether* a hidden cell was observed; not for
            ``"element"``, which hides nothing else. Small ones at most help.
        decoder_dim, decoder_layers, decoder_heads: size of the decoder.
    """

    name: str = "mae"
    mask_ratio: float = 0.5
    mask_mode: MaskMode = "time"
    block_length: int = 6
    value_loss: ValueLoss = "mse"
    presence_weight: float = 0.0
    decoder_dim: int = 64
    decoder_layers: int = 1
    decoder_heads: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "mask_ratio")
        require_choice(self, "mask_mode", MaskMode)
        require_choice(self, "value_loss", ValueLoss)
        require_at_least(self, 1, "block_length", "decoder_layers")
        require_at_least(self, 0, "presence_weight")
        require_heads(self, "decoder_dim", "decoder_heads")
        if self.presence_weight and self.mask_mode == "element":
            raise ValueError(
                f'presence_weight={self.presence_weight}: must be 0 with mask_mode="element", which hides '
                "observed cells only and so leaves no absence to predict"
            )


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
        super().__init__(encoder, config)
        d_input = self.need_d_input("predicts values")
        self.decoder = CrossAttentionDecoder(
            input_dim=self.read.output_dim,
            output_dim=2 * d_input if config.presence_weight else d_input,
            n_variables=d_input,
            width=config.decoder_dim,
            n_layers=config.decoder_layers,
            n_heads=config.decoder_heads,
        )

    def draw(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T D"],
        padding_mask: Bool[Tensor, "B T"] | None = None,
        times: Float[Tensor, "B T"] | None = None,
        generator: torch.Generator | None = None,
    ) -> MaskDraw:
        config, (observed, real) = self.config, presence(mask, padding_mask)
        ratio, length = config.mask_ratio, config.block_length
        return MaskDraw(draw_keep(config.mask_mode, observed, real, self.dynamic, ratio, length, generator))

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T D"],
        padding_mask: Bool[Tensor, "B T"] | None = None,
        times: Float[Tensor, "B T"] | None = None,
        counts: Float[Tensor, "B T D"] | None = None,
        draw: MaskDraw | None = None,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        if draw is None:
            draw = self.draw(x, mask, padding_mask, times)
        mode, ratio, n_steps = self.config.mask_mode, self.config.mask_ratio, x.shape[1]
        inputs = complete(x, mask, padding_mask, times, counts)
        shown = hide(inputs, draw.keep, self.dynamic)
        tokens = self.encode(shown, max_visible_steps(mode, ratio, n_steps))

        hidden = inputs.padding_mask.unsqueeze(-1) & self.dynamic & ~draw.keep
        index = first_true(hidden.any(-1), max_hidden_steps(mode, ratio, n_steps))
        time = take_steps(inputs.times, index)
        decoded = self.decoder(tokens, time, torch.full_like(index, STEP))
        target, observed, hidden = (take_steps(f, index) for f in (inputs.x, inputs.mask, hidden))
        loss, metrics = self._score(decoded, target, observed, hidden)
        n_observed = (inputs.mask & self.dynamic).sum()
        metrics["hidden"] = (observed & hidden).sum() / n_observed.clamp(min=1)
        return loss, metrics

    def _score(
        self,
        decoded: Float[Tensor, "B Q out"],
        target: Float[Tensor, "B Q D"],
        observed: Bool[Tensor, "B Q D"],
        hidden: Bool[Tensor, "B Q D"],
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        width = target.shape[-1]
        loss = value_loss(decoded[..., :width], target, observed & hidden, self.config.value_loss)
        metrics = {"reconstruction": loss.detach()}
        if self.config.presence_weight:
            logits = decoded[..., width:].float()
            entropy = F.binary_cross_entropy_with_logits(logits, observed.float(), reduction="none")
            presence = masked_mean(entropy, hidden)
            metrics["presence"] = presence.detach()
            loss = loss + self.config.presence_weight * presence
        return loss, metrics
