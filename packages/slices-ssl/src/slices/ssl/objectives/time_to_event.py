"""Time to event: when will each variable next be measured, and will it be abnormal?

Letters: B stays, T time steps, D variables, K bins of hours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..base import BaseSSLObjective, SSLConfig, register_objective
from ..checks import require, require_at_least, require_heads, require_layers
from ..decoder import CrossAttentionDecoder
from ..encoding import STEP, StayInputs
from ..losses import event_loss, mark_loss
from ..viewing import Cut, CutViewing

MARKS = 3  # low, normal, high


@dataclass(kw_only=True)
class TimeToEventConfig(SSLConfig):
    """Options of :class:`TimeToEvent`.

    Args:
        min_hours: that a stay is shown at least, where it is as long.
        bins: the hours after the cut at which bins end, rising.
        abnormal: a value further from the mean than so many standard deviations is low or high.
        mark_weight: of predicting whether the next value is low, normal or high.
        decoder_dim, decoder_layers, decoder_heads: size of the decoder.
    """

    name: str = "time_to_event"
    min_hours: float = 6.0
    bins: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 12.0, 24.0)
    abnormal: float = 1.0
    mark_weight: float = 1.0
    decoder_dim: int = 64
    decoder_layers: int = 1
    decoder_heads: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.bins = tuple(self.bins)
        rising = all(low < high for low, high in zip((0.0, *self.bins), self.bins, strict=False))
        require(self, "bins", bool(self.bins) and rising, "hours that rise from above 0, at least one")
        require(self, "abnormal", self.abnormal > 0, "above 0")
        require_at_least(self, 0, "min_hours", "mark_weight")
        require_layers(self, "decoder_layers")
        require_heads(self, "decoder_dim", "decoder_heads")


class NextEvents(NamedTuple):
    """Each variable's next measurement after a stay's cut: its bin, how far it was followed, its mark.

    ``bin`` is K where there was none within the bins; ``last`` is the last bin that was followed to its end,
    -1 where none was. A measurement in a bin that was followed in part is ``seen``, but is after ``last``:
    counted as an event, it would come without those that had none in the same time, and raise the hazard.
    """

    bin: Int[Tensor, "B D"]
    last: Int[Tensor, "B D"]
    mark: Int[Tensor, "B D"]
    seen: Bool[Tensor, "B D"]


def next_events(
    inputs: StayInputs,
    dynamic: Bool[Tensor, "#D"],
    hour: Float[Tensor, "B 1"],
    bins: Float[Tensor, "K"],
    abnormal: float,
) -> NextEvents:
    """What happens in each stay from ``hour`` on."""
    later = (inputs.mask & dynamic) & (inputs.times >= hour).unsqueeze(-1)
    times = inputs.times.float().unsqueeze(-1)
    when, step = times.masked_fill(~later, torch.inf).min(1)  # (B, D)
    bin = torch.bucketize(when - hour, bins, right=True).masked_fill(when.isinf(), len(bins))
    end = inputs.times.float().masked_fill(~inputs.padding_mask, -torch.inf).amax(-1, keepdim=True)
    followed = (end - hour).masked_fill(hour.isinf(), -1.0)
    last = torch.bucketize(followed, bins, right=True) - 1
    seen = bin < len(bins)
    last = last.expand_as(bin).masked_fill(~dynamic, -1)
    value = inputs.x.gather(1, step.unsqueeze(1)).squeeze(1)
    mark = 1 + (value > abnormal).long() - (value < -abnormal).long()
    return NextEvents(bin, last, mark, seen)


@register_objective("time_to_event", TimeToEventConfig)
class TimeToEvent(BaseSSLObjective):
    """Marked time to event, as MOTOR (Steinberg et al., 2024) pretrains on codes, here on measurements.

    A stay is shown up to a random hour. For each dynamic variable a light decoder gives the hazard of its
    next measurement in bins of hours, and whether that will be low, normal or high. Stays that end before
    are censored; see :func:`~slices.ssl.losses.event_loss`. Departures: hazards are discrete in time, and the
    cut lies on a step with an observation, whose measurements are the first events.

    Metrics: ``event`` and ``mark``, the two losses.

    >>> encoder = nn.Linear(3, 8)
    >>> encoder.output_dim = 8
    >>> objective = TimeToEvent(encoder, TimeToEventConfig(d_input=3, min_hours=2))
    >>> loss, metrics = objective(torch.randn(4, 6, 3), torch.rand(4, 6, 3) > 0.5)
    >>> loss.shape, sorted(metrics)
    (torch.Size([]), ['event', 'mark'])
    """

    config: TimeToEventConfig
    bins: Tensor

    def __init__(self, encoder: nn.Module, config: TimeToEventConfig) -> None:
        super().__init__(encoder, config, CutViewing(config.min_hours))
        d_input = self.need_d_input("predicts the next measurement of each variable")
        self.register_buffer("bins", torch.tensor(config.bins), persistent=False)
        n_answers = d_input * (len(config.bins) + MARKS)
        sizes = (config.decoder_dim, config.decoder_layers, config.decoder_heads)
        self.decoder = CrossAttentionDecoder(self.read.output_dim, n_answers, d_input, *sizes)

    def score(self, seen: Cut) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        inputs, hour, bins = seen.inputs, seen.hour.float(), self.bins.float()
        happens = next_events(inputs, self.dynamic, hour, bins, self.config.abnormal)
        asked = hour.masked_fill(hour.isinf(), 0.0)
        answers = self.decoder(seen.tokens, asked, torch.full_like(asked, STEP, dtype=torch.int64))
        hazards, marks = answers.view(*happens.bin.shape, -1).split([len(bins), MARKS], dim=-1)
        event = event_loss(hazards, happens.bin, happens.last)
        mark = mark_loss(marks, happens.mark, happens.seen)
        return event + self.config.mark_weight * mark, {"event": event.detach(), "mark": mark.detach()}
