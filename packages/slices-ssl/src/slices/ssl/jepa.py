"""Joint-embedding prediction: from part of a stay, predict what a teacher makes of the rest.

Letters: B stays, T time steps, D variables, N tokens, H embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .base import BaseSSLObjective, SSLConfig, register_objective
from .checks import require, require_at_least, require_fraction, require_heads
from .decoder import CrossAttentionDecoder
from .encoding import STAY, StayInputs, Tokens, complete, hide, pool_stay, presence, step_of
from .losses import latent_loss
from .masking import MaskDraw, draw_keep, max_visible_steps
from .teacher import Teacher, cosine_momentum


@dataclass(kw_only=True)
class JEPAConfig(SSLConfig):
    """Options of :class:`JEPA`.

    Args:
        mask_ratio: the share of each stay's real steps to hide.
        block_length: they are hidden in runs of so many steps (single ones can be interpolated).
        momentum: of the teacher, at the start; it rises to 1 over the run.
        predictor_dim, predictor_layers, predictor_heads: size of the predictor.
    """

    name: str = "jepa"
    mask_ratio: float = 0.5
    block_length: int = 6
    momentum: float = 0.996
    predictor_dim: int = 64
    predictor_layers: int = 2
    predictor_heads: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction(self, "mask_ratio")
        require_at_least(self, 1, "block_length", "predictor_layers")
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

    >>> encoder = nn.Linear(3, 8)
    >>> encoder.output_dim = 8
    >>> objective = JEPA(encoder, JEPAConfig(block_length=2))
    >>> loss, metrics = objective(torch.randn(4, 6, 3), torch.rand(4, 6, 3) > 0.5)
    >>> loss.shape, sorted(metrics)
    (torch.Size([]), ['target_std'])
    """

    config: JEPAConfig

    def __init__(self, encoder: nn.Module, config: JEPAConfig) -> None:
        super().__init__(encoder, config)
        # Only an encoder with tokens of its own can have some that stand for a single variable.
        n_variables = self.need_d_input("asks for tokens by variable") if self.read.has_tokens else 0
        self.teacher = Teacher(encoder)
        self.predictor = CrossAttentionDecoder(
            input_dim=self.read.output_dim,
            output_dim=self.read.output_dim,
            n_variables=n_variables,
            width=config.predictor_dim,
            n_layers=config.predictor_layers,
            n_heads=config.predictor_heads,
        )

    def on_optimizer_step(self, step: int, total_steps: int) -> None:
        """Move the teacher."""
        self.teacher.update(self.encoder, cosine_momentum(self.config.momentum, step, total_steps))

    def draw(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T D"],
        padding_mask: Bool[Tensor, "B T"] | None = None,
        times: Float[Tensor, "B T"] | None = None,
        generator: torch.Generator | None = None,
    ) -> MaskDraw:
        ratio, length = self.config.mask_ratio, self.config.block_length
        observed, real = presence(mask, padding_mask)
        return MaskDraw(draw_keep("block", observed, real, self.dynamic, ratio, length, generator))

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
        inputs = complete(x, mask, padding_mask, times, counts)
        shown = hide(inputs, draw.keep, self.dynamic)
        context = self.encode(shown, max_visible_steps("block", self.config.mask_ratio, x.shape[1]))
        with torch.no_grad():
            target = self.read(self.teacher.model, inputs)
        predicted = self.predictor(context, target.time, target.variable)
        hidden_steps = (inputs.mask & self.dynamic & ~draw.keep).any(-1)
        scored = _hidden(target, inputs, hidden_steps) & self._of_dynamic(target)
        loss = latent_loss(predicted, target.embedding, scored)
        return loss, {"target_std": _spread(target)}

    def _of_dynamic(self, tokens: Tokens) -> Bool[Tensor, "B N"]:
        """All tokens but those that stand for a static variable."""
        column = tokens.variable.clamp(0, len(self.dynamic) - 1)
        return (tokens.variable < 0) | self.dynamic[column]


def _hidden(tokens: Tokens, inputs: StayInputs, hidden_steps: Bool[Tensor, "B T"]) -> Bool[Tensor, "B N"]:
    """Which tokens lie in a hidden step; a token of the whole stay always has a part there."""
    step = step_of(tokens.time, inputs.times, inputs.padding_mask)
    in_hidden_step = hidden_steps.gather(1, step) & (tokens.variable != STAY)
    of_stay = hidden_steps.any(-1, keepdim=True) & (tokens.variable == STAY)
    return tokens.valid & (in_hidden_step | of_stay)


def _spread(target: Tokens) -> Float[Tensor, ""]:
    """The standard deviation between stays of their mean target, averaged over its coordinates."""
    normed = F.layer_norm(target.embedding.float(), target.embedding.shape[-1:])
    return pool_stay(target._replace(embedding=normed)).std(0, correction=0).mean()
