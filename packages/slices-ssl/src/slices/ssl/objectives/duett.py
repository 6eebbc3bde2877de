"""DuETT's pretraining: one hidden time bin and one hidden variable, values and presence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..base import BaseSSLObjective, Predicted, SSLConfig, register_objective
from ..checks import require_at_least, require_heads, require_layers
from ..draws import uniform
from ..encoding import StayInputs
from ..masking import MaskDraw
from ..reconstruction import Reconstruction
from ..viewing import Masked, MaskedViewing


@dataclass(kw_only=True)
class DuETTConfig(SSLConfig):
    """Options of :class:`DuETT`.

    Args:
        n_bins: bins over each stay's own span, of which one is hidden.
        presence_weight: of predicting whether a hidden cell was observed; the paper's.
        decoder_dim, decoder_layers, decoder_heads: size of the decoder.
    """

    name: str = "duett"
    n_bins: int = 32
    presence_weight: float = 0.2
    decoder_dim: int = 64
    decoder_layers: int = 1
    decoder_heads: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 2, "n_bins")
        require_at_least(self, 0, "presence_weight")
        require_layers(self, "decoder_layers")
        require_heads(self, "decoder_dim", "decoder_heads")


class BinAndVariableViewing(MaskedViewing):
    """Hides one bin of a stay's span in which something was observed, and one observed variable of it.

    Where these were all that there is, one step with an observation is hidden instead; a stay with fewer than
    two of these is shown whole.
    """

    def __init__(self, n_bins: int) -> None:
        super().__init__("element", 0.5, only_observed=True)
        self.key = ("bin and variable", n_bins)
        self.n_bins = n_bins

    def draw(
        self, inputs: StayInputs, dynamic: Bool[Tensor, "#D"], generator: torch.Generator | None = None
    ) -> MaskDraw:
        observed, times = inputs.mask & dynamic, inputs.times.float()
        usable, variables = observed.any(-1), observed.any(1)
        first = times.masked_fill(~usable, torch.inf).amin(-1, keepdim=True)
        last = times.masked_fill(~usable, -torch.inf).amax(-1, keepdim=True)
        place = (times - first) / (last - first).clamp(min=1e-6)
        bin = (place.nan_to_num(0.0).clamp(0, 1) * self.n_bins).long().clamp(max=self.n_bins - 1)

        chance = uniform(usable.shape, usable.device, generator)
        step = (chance + usable).argmax(-1, keepdim=True)
        hidden_bin = bin == bin.gather(1, step)
        lot = uniform(variables.shape, usable.device, generator) + variables
        hidden_variable = torch.arange(lot.shape[-1], device=lot.device) == lot.argmax(-1, keepdim=True)
        hidden = hidden_bin.unsqueeze(-1) | (hidden_variable & dynamic).unsqueeze(1)

        hides_all = ~(observed & ~hidden).flatten(1).any(-1).view(-1, 1, 1)
        one_step = (torch.arange(usable.shape[1], device=usable.device) == step).unsqueeze(-1)
        hidden = torch.where(hides_all, one_step, hidden)
        return MaskDraw(~hidden | usable.sum(-1).lt(2).view(-1, 1, 1))


@register_objective("duett", DuETTConfig)
class DuETT(BaseSSLObjective):
    """The pretraining of DuETT (Labach et al., 2023, section 4.2), for any encoder.

    One time bin and one variable of each stay are hidden; their values are predicted (squared error) and
    whether they were measured (cross-entropy, weight 0.2). Departures: what is hidden is asked for at the
    stay's own steps by a cross-attention decoder, where the paper has one perceptron for the embedding of the
    bin and one for that of the variable, which only its own encoder has; and steps at which nothing was
    measured are left out, as those are whose measurements are all hidden, so that a gap does not tell.

    Metrics: ``reconstruction``, ``presence``, and ``hidden``, the share of observed dynamic cells hidden.

    >>> encoder = nn.Linear(3, 8)
    >>> encoder.output_dim = 8
    >>> objective = DuETT(encoder, DuETTConfig(d_input=3))
    >>> loss, metrics = objective(torch.randn(4, 6, 3), torch.rand(4, 6, 3) > 0.5)
    >>> sorted(metrics)
    ['hidden', 'presence', 'reconstruction']
    """

    config: DuETTConfig

    def __init__(self, encoder: nn.Module, config: DuETTConfig) -> None:
        super().__init__(encoder, config, BinAndVariableViewing(config.n_bins))
        d_input = self.need_d_input("predicts values")
        self.reconstruct = Reconstruction(
            self.read.output_dim,
            d_input,
            width=config.decoder_dim,
            n_layers=config.decoder_layers,
            n_heads=config.decoder_heads,
            presence_weight=config.presence_weight,
        )

    def score(self, seen: Masked) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        loss, metrics = self.reconstruct(seen)
        return loss, metrics

    def predicted(self, seen: Masked) -> Predicted:
        return self.reconstruct.predicted(seen)
