"""GRU-D: a recurrent net whose inputs and memory fade between observations. H is the state's width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .base import TokenEncoder, register_encoder
from .config import EncoderConfig, PoolingName, require
from .inputs import StayInputs, hours_since, latest_step, real_steps_first, take
from .layers import Dropout
from .tokens import Tokens, step_tokens

HOURS = 24.0  # intervals are in days, so that their weights are of the order of one


@dataclass(kw_only=True)
class GRUDConfig(EncoderConfig):
    """Config of ``GRUDEncoder``; one layer, as in the paper."""

    n_layers: int = 1
    pooling: PoolingName = "last"
    refused_poolings: ClassVar[dict[str, str]] = {"cls": "a recurrent encoder has no CLS token"}

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.n_layers == 1, f"n_layers of gru_d must be 1, got {self.n_layers}")


@register_encoder("gru_d", GRUDConfig)
class GRUDEncoder(TokenEncoder):
    """GRU-D (Che et al., "Recurrent neural networks for multivariate time series with missing values", 2018).

    Between observations a variable decays from its last value to its mean, and the state towards 0, each at a
    learned rate (eqs. 10 to 14). Causal. Departures: values are normalised, so that their mean is 0;
    intervals are in days; padding is left out of the recurrence; dropout falls on the states that come out.

    >>> encoder = GRUDEncoder(GRUDConfig(d_input=5, d_model=16))
    >>> encoder(torch.randn(2, 7, 5)).shape
    torch.Size([2, 16])
    """

    blind_to: ClassVar[Mapping[str, str]] = {
        "counts": "the paper's inputs are values, masks and intervals",
        "times": "the paper's inputs are intervals, which a shift leaves alone",
    }

    def __init__(self, config: GRUDConfig) -> None:
        super().__init__(config)
        d, h = self.d_input, config.d_model
        self.decay_rate = nn.Parameter(torch.empty(d).uniform_(0.0, 1.0))  # W_gamma_x, diagonal
        self.decay_bias = nn.Parameter(torch.zeros(d))
        self.forget = nn.Linear(d, h)  # W_gamma_h
        self.of_input = nn.Linear(2 * d, 3 * h)  # W and V of update, reset and candidate, and their biases
        self.of_gates = nn.Linear(h, 2 * h, bias=False)  # U_z, U_r
        self.of_candidate = nn.Linear(h, h, bias=False)  # U
        self.dropout = Dropout(config.dropout)

    @property
    def causal(self) -> bool:
        """Always."""
        return True

    @property
    def static_length(self) -> str:
        """A recurrence is written out step by step."""
        return "recurrence"

    def encode_stay(self, stay: StayInputs) -> Tokens:
        """One token a step: the hidden state after it."""
        row, place = real_steps_first(stay)
        # In the precision of the weights: rounding would add up over hundreds of steps.
        with torch.autocast(stay.x.device.type, enabled=False):
            hidden = self.recur(row._replace(x=row.x.to(self.decay_rate.dtype)))
        return step_tokens(take(self.dropout(hidden), place), stay)

    def recur(self, row: StayInputs) -> Float[Tensor, "B T H"]:
        """The states. All that does not need the one before is computed for all steps at once."""
        latest, interval = latest_and_interval(row)
        seen = row.mask.to(row.x.dtype)
        kept = torch.exp(-torch.relu(self.decay_rate * interval + self.decay_bias))
        imputed = row.x + (1 - seen) * kept * latest  # eq. 11 with a mean of 0; x is 0 where unobserved
        forget = torch.exp(-torch.relu(self.forget(interval))).unbind(1)
        inputs = self.of_input(torch.cat((imputed, seen), dim=-1))
        gates, candidates = inputs.split((2 * self.config.d_model, self.config.d_model), dim=-1)
        state = row.x.new_zeros(row.x.shape[0], self.config.d_model)
        of_gates, of_candidate = self.of_gates.weight.t(), self.of_candidate.weight.t()
        states = []
        for fade, gate, candidate in zip(forget, gates.unbind(1), candidates.unbind(1), strict=True):
            faded = fade * state
            update, reset = torch.sigmoid(torch.addmm(gate, faded, of_gates)).chunk(2, dim=-1)
            proposed = torch.tanh(torch.addmm(candidate, reset * faded, of_candidate))
            state = torch.lerp(faded, proposed, update)
            states.append(state)
        return torch.stack(states, dim=1)


def latest_and_interval(row: StayInputs) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B T D"]]:
    """Each variable's last value before a step (0 where there is none), and the days since then (eq. 2).

    Of what has not been observed yet, the days since the first step. At the first step itself nothing came
    before: its own value stands there, which only matters where it was observed, and then is not asked for.
    """
    before = F.pad(latest_step(row.mask)[:, :-1], (0, 0, 1, 0))  # 0 also where there is none: x is 0 there
    interval = hours_since(before, row.times) / HOURS
    return row.x.gather(1, before), interval.clamp(min=0).to(row.x.dtype)  # at padding times are 0
