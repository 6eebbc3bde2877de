"""Predicting what was hidden: values and, if asked for, presence.

Letters: B stays, T time steps, D variables, Q steps of which something is hidden.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .base import Predicted
from .decoder import CrossAttentionDecoder
from .encoding import STEP, first_true, take_steps
from .losses import ValueLoss, balanced_value_loss, presence_loss, value_loss
from .viewing import Masked

Weighting = Literal["cell", "variable"]


class Reconstruction(nn.Module):
    """A light decoder asks the tokens for the steps of which something is hidden; its answers have a loss.

    Args:
        input_dim: H, the width of the tokens.
        width, n_layers, n_heads: size of the decoder.
        value: kind of the value loss.
        weighting: each hidden value counts once (``"cell"``), or each variable does (``"variable"``).
        presence_weight: of predicting whether a hidden cell was observed.
    """

    def __init__(
        self,
        input_dim: int,
        d_input: int,
        width: int,
        n_layers: int,
        n_heads: int,
        presence_weight: float,
        value: ValueLoss = "mse",
        weighting: Weighting = "cell",
    ) -> None:
        super().__init__()
        n_answers = 2 * d_input if presence_weight else d_input
        self.decoder = CrossAttentionDecoder(input_dim, n_answers, d_input, width, n_layers, n_heads)
        self.value, self.weighting, self.presence_weight = value, weighting, presence_weight

    def forward(self, seen: Masked) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The loss; and as metrics its parts, and the share of observed dynamic cells that was hidden."""
        index = first_true(seen.hidden.any(-1), seen.max_hidden_steps)
        fields = (seen.inputs.x, seen.inputs.mask, seen.hidden)
        target, observed, hidden = (take_steps(field, index) for field in fields)
        decoded = self.decoder(
            seen.tokens, take_steps(seen.inputs.times, index), torch.full_like(index, STEP)
        )
        width = target.shape[-1]
        loss_of = value_loss if self.weighting == "cell" else balanced_value_loss
        loss = loss_of(decoded[..., :width], target, observed & hidden, self.value)
        n_observed = (seen.inputs.mask & seen.dynamic).sum()
        n_hidden = (seen.inputs.mask & seen.hidden).sum()
        metrics = {"reconstruction": loss.detach(), "hidden": n_hidden / n_observed.clamp(min=1)}
        if self.presence_weight:
            presence = presence_loss(decoded[..., width:], observed, hidden)
            metrics["presence"] = presence.detach()
            loss = loss + self.presence_weight * presence
        return loss, metrics

    def predicted(self, seen: Masked) -> Predicted:
        """The answers for all steps, of which those for hidden cells were asked."""
        steps = torch.full(seen.inputs.times.shape, STEP, device=seen.inputs.times.device)
        decoded = self.decoder(seen.tokens, seen.inputs.times, steps)
        return Predicted(decoded[..., : seen.inputs.x.shape[-1]], seen.hidden)
