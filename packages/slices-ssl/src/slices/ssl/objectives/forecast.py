"""Forecasting: from a stay up to a random hour, the values of the hours that follow."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..base import BaseSSLObjective, Predicted, SSLConfig, register_objective
from ..checks import require, require_at_least, require_choice, require_heads, require_layers
from ..decoder import CrossAttentionDecoder
from ..encoding import STEP
from ..losses import ValueLoss, value_loss
from ..viewing import Cut, CutViewing


@dataclass(kw_only=True)
class ForecastConfig(SSLConfig):
    """Options of :class:`Forecast`.

    Args:
        min_hours: that a stay is shown at least, where it is as long; the paper's 12.
        horizon: hours to forecast; the paper's 2.
        value_loss: ``"mse"`` or ``"huber"``.
        decoder_dim, decoder_layers, decoder_heads: size of the decoder.
    """

    name: str = "forecast"
    min_hours: float = 12.0
    horizon: float = 2.0
    value_loss: ValueLoss = "mse"
    decoder_dim: int = 64
    decoder_layers: int = 1
    decoder_heads: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "min_hours")
        require(self, "horizon", self.horizon > 0, "above 0")
        require_choice(self, "value_loss", ValueLoss)
        require_layers(self, "decoder_layers")
        require_heads(self, "decoder_dim", "decoder_heads")


@register_objective("forecast", ForecastConfig)
class Forecast(BaseSSLObjective):
    """The pretraining of STraTS (Tipirneni & Reddy, 2022, section 3.4), for any encoder.

    A stay is shown up to a random hour, and each variable's mean over the next hours is predicted, of those
    that are measured in them. Departures: the answer comes from a light decoder that asks the tokens for the
    hour of the cut, not from a linear layer on the stay's embedding; and a stay is cut at the time of a step
    with an observation, so that there is something to forecast.

    Metrics: ``forecast``, the share of dynamic variables that were measured in the hours to forecast.

    >>> encoder = nn.Linear(3, 8)
    >>> encoder.output_dim = 8
    >>> objective = Forecast(encoder, ForecastConfig(d_input=3, min_hours=2))
    >>> loss, metrics = objective(torch.randn(4, 6, 3), torch.rand(4, 6, 3) > 0.5)
    >>> loss.shape, sorted(metrics)
    (torch.Size([]), ['forecast'])
    """

    config: ForecastConfig

    def __init__(self, encoder: nn.Module, config: ForecastConfig) -> None:
        super().__init__(encoder, config, CutViewing(config.min_hours))
        d_input = self.need_d_input("predicts values")
        sizes = (config.decoder_dim, config.decoder_layers, config.decoder_heads)
        self.decoder = CrossAttentionDecoder(self.read.output_dim, d_input, d_input, *sizes)

    def score(self, seen: Cut) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        inputs = seen.inputs
        observed = inputs.mask & self.dynamic & self._soon(seen).unsqueeze(-1)
        n = observed.sum(1)
        mean = torch.where(observed, inputs.x, 0.0).sum(1) / n.clamp(min=1)
        predicted = self._decode(seen).squeeze(1)
        share = (n > 0).sum() / (self.dynamic.expand(n.shape).sum()).clamp(min=1)
        return value_loss(predicted, mean, n > 0, self.config.value_loss), {"forecast": share}

    def predicted(self, seen: Cut) -> Predicted:
        """One value a variable, at all steps within the horizon."""
        asked = self._soon(seen) & seen.inputs.padding_mask
        return Predicted(
            self._decode(seen).expand_as(seen.inputs.x),
            (asked.unsqueeze(-1) & self.dynamic).expand_as(seen.inputs.mask),
        )

    def _soon(self, seen: Cut) -> Bool[Tensor, "B T"]:
        times, hour = seen.inputs.times, seen.hour
        return (times >= hour) & (times < hour + self.config.horizon)

    def _decode(self, seen: Cut) -> Float[Tensor, "B 1 D"]:
        asked = seen.hour.masked_fill(seen.hour.isinf(), 0.0)
        answers: Tensor = self.decoder(seen.tokens, asked, torch.full_like(asked, STEP, dtype=torch.int64))
        return answers
