"""A selective state space model whose state fades with the hours that pass.

Letters: H width, E inner width, P width of a head, R heads, N size of the state, Q steps of a chunk, C
chunks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .base import TokenEncoder, register_encoder
from .config import EncoderConfig, PoolingName, require
from .inputs import StayInputs, clocked_features, hours_since_previous_step, real_steps_first, take
from .layers import DilatedConv, Dropout
from .tokens import Tokens, step_tokens

CHUNK = 64  # steps whose influence on each other is one matrix
GONE = -30.0  # a fade below float32's digits; sums of greater ones would take the digits of the small


@dataclass(kw_only=True)
class MambaConfig(EncoderConfig):
    """Config of ``MambaEncoder``.

    Attributes:
        d_state: size N of the state.
        expand: inner width E in multiples of ``d_model``.
        d_head: width P of a head, all of which fades at one rate; must divide E.
        kernel: steps of the convolution before the state space.
    """

    d_state: int = 16
    expand: int = 2
    d_head: int = 16
    kernel: int = 4
    pooling: PoolingName = "last"
    refused_poolings: ClassVar[dict[str, str]] = {"cls": "a causal encoder has no CLS token"}

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("d_state", "expand", "d_head", "kernel"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        inner = self.expand * self.d_model
        require(inner % self.d_head == 0, f"d_head={self.d_head} must divide expand * d_model = {inner}")


@register_encoder("mamba", MambaConfig)
class MambaEncoder(TokenEncoder):
    """Mamba (Gu & Dao 2023) in the form of Mamba-2 (Dao & Gu, "Transformers are SSMs", 2024), in plain torch.

    Blocks of a gated selective state space, each normalised before and added to what came in; causal. The
    state fades by ``exp(A dt h)``, where h are the hours since the step before: on an hourly grid that is the
    paper's. Without a loop over time, in time linear in the steps. It is told times and gaps besides
    (``clocked_features``). Padding is left out.

    >>> encoder = MambaEncoder(MambaConfig(d_input=5, d_model=16))
    >>> encoder(torch.randn(2, 7, 5)).shape
    torch.Size([2, 16])
    """

    config: MambaConfig

    def __init__(self, config: MambaConfig) -> None:
        super().__init__(config)
        self.embed = nn.Linear(4 * self.d_input + 2, config.d_model)
        self.blocks = nn.ModuleList(MambaBlock(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.d_model)

    @property
    def layer_patterns(self) -> tuple[tuple[str, ...], ...]:
        """The embedding of steps, then block by block."""
        return (("embed.*",), *((f"blocks.{i}.*",) for i in range(self.config.n_layers)))

    @property
    def causal(self) -> bool:
        """Always."""
        return True

    @property
    def static_length(self) -> str:
        """Steps are cut into chunks."""
        return "chunks of steps"

    def encode_stay(self, stay: StayInputs) -> Tokens:
        """One token a step."""
        row, place = real_steps_first(stay)
        hours = hours_since_previous_step(row).clamp(min=0)
        steps = self.embed(clocked_features(row))
        for block in self.blocks:
            steps = block(steps, hours)
        return step_tokens(take(self.norm(steps), place), stay)


class RMSNorm(nn.RMSNorm):
    """Root mean square normalisation (Zhang & Sennrich 2019), in float32 whatever comes in."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-5)

    def forward(self, steps: Float[Tensor, "*shape H"]) -> Float[Tensor, "*shape H"]:
        weight = self.weight.float()
        return F.rms_norm(steps.float(), self.normalized_shape, weight, self.eps).to(steps.dtype)


class MambaBlock(nn.Module):
    """Figure 6 of Mamba-2: one projection to all that the state space takes, which depends on the step."""

    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        inner, n_heads = config.expand * config.d_model, config.expand * config.d_model // config.d_head
        self.sizes = [inner, inner + 2 * config.d_state, n_heads]
        self.inner, self.d_state, self.d_head = inner, config.d_state, config.d_head
        self.norm = RMSNorm(config.d_model)
        self.project = nn.Linear(config.d_model, sum(self.sizes))
        self.conv = DilatedConv(self.sizes[1], self.sizes[1], config.kernel, 1, causal=True, depthwise=True)
        self.log_rate = nn.Parameter(torch.linspace(1.0, 16.0, n_heads).log())  # of -A
        step = torch.exp(torch.empty(n_heads).uniform_(math.log(1e-3), math.log(1e-1)))
        self.step_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))  # softplus of it is the step
        self.through = nn.Parameter(torch.ones(n_heads))  # D of the paper
        self.out_norm = RMSNorm(inner)
        self.out = nn.Linear(inner, config.d_model)
        self.dropout = Dropout(config.dropout)

    def forward(self, steps: Float[Tensor, "B T H"], hours: Float[Tensor, "B T"]) -> Float[Tensor, "B T H"]:
        """``hours``: since the step before."""
        gate, mixed, step = self.project(self.norm(steps)).split(self.sizes, dim=-1)
        mixed = F.silu(self.conv(mixed))
        with torch.autocast(steps.device.type, enabled=False):  # sums over steps want all digits
            inputs, write, read = torch.split(mixed.float(), [self.inner, self.d_state, self.d_state], dim=-1)
            inputs = torch.unflatten(inputs, -1, (-1, self.d_head))
            size = F.softplus(step.float() + self.step_bias.float())
            fade = -self.log_rate.float().exp() * size * hours.unsqueeze(-1)
            seen = state_space(inputs * size.unsqueeze(-1), fade, write, read)
            seen = seen + self.through.float().unsqueeze(-1) * inputs
        seen = seen.flatten(-2).to(gate.dtype) * F.silu(gate)
        added: Tensor = self.dropout(self.out(self.out_norm(seen)))
        return steps + added


def state_space(
    inputs: Float[Tensor, "B T R P"],
    fade: Float[Tensor, "B T R"],
    write: Float[Tensor, "B T N"],
    read: Float[Tensor, "B T N"],
    chunk: int = CHUNK,
) -> Float[Tensor, "B T R P"]:
    """``y_t = read_t S_t`` of the state ``S_t = exp(fade_t) S_{t-1} + write_t inputs_t``, for each head.

    Listing 1 of Mamba-2: within a chunk of steps as a matrix, between chunks by their states. A state that
    fades by more than ``exp(GONE)`` fades by that.
    """
    n_steps = inputs.shape[1]
    lacking = -n_steps % chunk
    padded = (F.pad(t, (0, 0) * (t.ndim - 2) + (0, lacking)) for t in (inputs, fade, write, read))
    inputs, fade, write, read = (torch.unflatten(t, 1, (-1, chunk)) for t in padded)  # B, C, Q
    total = fade.clamp(min=GONE).cumsum(2).permute(0, 3, 1, 2)  # (B, R, C, Q)
    similar = read @ write.transpose(-1, -2)  # (B, C, Q, Q)
    within = _later(total) * similar.unsqueeze(1)
    values = inputs.permute(0, 3, 1, 2, 4)  # (B, R, C, Q, P)
    near = within @ values
    to_the_end = torch.exp(total[..., -1:] - total)
    states = (write.transpose(-1, -2).unsqueeze(1) * to_the_end.unsqueeze(-2)) @ values  # (B, R, C, N, P)
    whole = total[..., -1].clamp(min=GONE).cumsum(-1)
    between = F.pad(_later(whole), (0, 0, 1, 0))[..., :-1, :]  # a chunk sees the states of those before
    before = (between @ states.flatten(-2)).reshape(states.shape)
    far = torch.exp(total).unsqueeze(-1) * (read.unsqueeze(1) @ before)
    out: Tensor = (near + far).permute(0, 2, 3, 1, 4).flatten(1, 2)[:, :n_steps]
    return out


def _later(total: Float[Tensor, "*lead Q"]) -> Float[Tensor, "*lead Q Q"]:
    """``exp(total_t - total_s)`` for t at or after s, 0 before."""
    index = torch.arange(total.shape[-1], device=total.device)
    difference = total.unsqueeze(-1) - total.unsqueeze(-2)
    return torch.exp(difference.masked_fill(index > index.unsqueeze(-1), -torch.inf))
