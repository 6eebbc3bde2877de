"""The contract of an encoder: its config, its two shapes, its tokens.

Letters: ``B`` stays in a batch, ``T`` time steps, ``D`` variables, ``N`` tokens, ``H`` embedding
width. Masks: True means there. Times are hours since admission.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, TypeVar, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .inputs import StayInputs, complete, spread_statics
from .layers.pooling import make_pooling
from .registry import Registry

PoolingName = Literal["none", "mean", "max", "cls", "last", "attention"]

STEP = -1
"""``Tokens.variable`` of a token that stands for a whole time step."""
STAY = -2
"""``Tokens.variable`` of a token that stands for the whole stay."""


@dataclass(kw_only=True)
class EncoderConfig:
    """What every encoder's config holds. Subclass it with ``@dataclass`` and add fields.

    Attributes:
        d_input: number of variables D; training fills it in from the data, building needs it.
        d_model: embedding width H.
        n_layers: depth.
        dropout: probability of dropping an activation in training, in [0, 1).
        pooling: how tokens become one embedding per stay; "none" gives one embedding per step.
        static_columns: the variables that are observed only at the first real step (age, sex ...).

    Raises:
        ValueError: a value out of range, or a pooling that the architecture does not offer.
    """

    d_input: int | None = None
    d_model: int = 64
    n_layers: int = 2
    dropout: float = 0.1
    pooling: PoolingName = "mean"
    static_columns: tuple[int, ...] = ()

    refused_poolings: ClassVar[dict[str, str]] = {}
    """Poolings that an architecture does not offer, each with the reason."""

    def __post_init__(self) -> None:
        self.static_columns = tuple(self.static_columns)
        for name in ("d_input", "d_model", "n_layers"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"{name} must be at least 1, got {value}")
        require(0 <= self.dropout < 1, f"dropout must be in [0, 1), got {self.dropout}")
        offered = [name for name in get_args(PoolingName) if name not in self.refused_poolings]
        reason = self.refused_poolings.get(self.pooling, "there is no such pooling")
        require(
            self.pooling in offered,
            f"pooling {self.pooling!r} is not offered: {reason}; choose from {', '.join(offered)}",
        )
        limit = self.d_input or max(self.static_columns, default=0) + 1
        require(
            all(0 <= column < limit for column in self.static_columns),
            f"static_columns must be in [0, d_input={self.d_input}), got {self.static_columns}",
        )
        require(
            len(set(self.static_columns)) == len(self.static_columns),
            f"static_columns must not repeat, got {self.static_columns}",
        )


def require(condition: bool, message: str) -> None:
    """Raises ``ValueError(message)`` unless the condition holds."""
    if not condition:
        raise ValueError(message)


class Tokens(NamedTuple):
    """What an encoder knows of a batch of stays before pooling.

    Attributes:
        embedding: exactly 0 where not valid.
        valid: a real token, not padding and not hidden.
        time: hours since admission; of no meaning where ``variable`` is ``STAY``.
        variable: the variable's column, ``STEP`` (-1) for a whole step, ``STAY`` (-2) for the whole
            stay (a CLS token, or the one token of an encoder that only gives a pooled embedding).
    """

    embedding: Float[Tensor, "B N H"]
    valid: Bool[Tensor, "B N"]
    time: Float[Tensor, "B N"]
    variable: Int[Tensor, "B N"]


class BaseEncoder(nn.Module, ABC):
    """An encoder of clinical time series. A subclass needs ``forward`` and no more.

    ``forward(x, mask=None, padding_mask=None, times=None, counts=None)`` gives ``(B, T, H)`` with
    ``pooling="none"`` and ``(B, H)`` otherwise. It may name fewer arguments; ``encode`` passes only
    those it names. Where H is not ``config.d_model``, override ``output_dim``.

    Raises:
        ValueError: ``config.d_input`` is not set.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        if config.d_input is None:
            raise ValueError(
                f"{type(self).__name__} needs d_input, the number of variables; it is None. "
                "Training sets it from the data; elsewhere set it in the config"
            )
        self.config = config
        self.d_input = config.d_input
        named = inspect.signature(self.forward).parameters
        self._named = tuple(name for name in StayInputs._fields if name in named)

    @property
    def output_dim(self) -> int:
        """The embedding width H."""
        return self.config.d_model

    @property
    def causal(self) -> bool:
        """With pooling "none": does changing anything after a step leave that step and all before alone?"""
        return False

    @abstractmethod
    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T D"] | None = None,
        padding_mask: Bool[Tensor, "B T"] | None = None,
        times: Float[Tensor, "B T"] | None = None,
        counts: Float[Tensor, "B T D"] | None = None,
    ) -> Tensor:
        """Embeddings ``(B, T, H)`` with pooling "none", else ``(B, H)``.

        Args:
            x: normalised values; where ``mask`` is False they may be anything.
            mask: observed. Default: all.
            padding_mask: a real step of this stay, observed or not. Default: all.
            times: hours since admission, rising over the real steps. Default: 0 .. T-1.
            counts: how many measurements a cell sums up. Default: the mask.
        """

    def encode(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T D"] | None = None,
        padding_mask: Bool[Tensor, "B T"] | None = None,
        times: Float[Tensor, "B T"] | None = None,
        counts: Float[Tensor, "B T D"] | None = None,
    ) -> Tokens:
        """The tokens before pooling: here, what ``forward`` gives, one token a step or one in all."""
        stay = complete(x, mask, padding_mask, times, counts)
        embedding: Tensor = self.forward(**{name: getattr(stay, name) for name in self._named})
        if embedding.shape[-1] != self.output_dim:
            raise ValueError(
                f"{type(self).__name__}.forward gives width {embedding.shape[-1]}, but output_dim is "
                f"{self.output_dim}: override the output_dim property"
            )
        if embedding.ndim == 3:
            return step_tokens(embedding, stay)
        valid = stay.padding_mask.any(1, keepdim=True)
        embedding = embedding.unsqueeze(1).masked_fill(~valid.unsqueeze(-1), 0.0)
        time = torch.zeros_like(stay.times[:, :1])
        return Tokens(embedding, valid, time, torch.full_like(valid, STAY, dtype=torch.int64))


class TokenEncoder(BaseEncoder):
    """An encoder that defines ``encode``; ``forward`` pools what it gives.

    Subclasses call ``self.inputs(...)`` first: it completes and checks what is given and lets every
    real step see the statics.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.pool = make_pooling(config.pooling, self.output_dim)
        static = torch.zeros(self.d_input, dtype=torch.bool)
        static[list(config.static_columns)] = True
        self.static: Tensor
        self.register_buffer("static", static, persistent=False)

    def inputs(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T D"] | None,
        padding_mask: Bool[Tensor, "B T"] | None,
        times: Float[Tensor, "B T"] | None,
        counts: Float[Tensor, "B T D"] | None,
    ) -> StayInputs:
        """The stay with nothing missing, statics at every real step. ``ValueError`` for wrong shapes."""
        if x.shape[-1] != self.d_input:
            raise ValueError(f"x has {x.shape[-1]} variables, the encoder was built for {self.d_input}")
        stay = complete(x, mask, padding_mask, times, counts)
        return spread_statics(stay, self.static) if self.config.static_columns else stay

    @abstractmethod
    def encode(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T D"] | None = None,
        padding_mask: Bool[Tensor, "B T"] | None = None,
        times: Float[Tensor, "B T"] | None = None,
        counts: Float[Tensor, "B T D"] | None = None,
    ) -> Tokens:
        """The tokens before pooling."""

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T D"] | None = None,
        padding_mask: Bool[Tensor, "B T"] | None = None,
        times: Float[Tensor, "B T"] | None = None,
        counts: Float[Tensor, "B T D"] | None = None,
    ) -> Tensor:
        """See ``BaseEncoder.forward``."""
        tokens = self.encode(x, mask, padding_mask, times, counts)
        pooled: Tensor = self.pool(tokens.embedding, tokens.valid)
        return pooled


class SeparableEncoder(TokenEncoder):
    """An encoder whose tokens can be dropped before the expensive part.

    The law: hide at the input, ``tokenize``, drop tokens that are not valid, ``encode_tokens`` is the
    same as ``encode_tokens`` of all of them. So a token may depend on its own step, on statics and
    on other visible input, and ``encode_tokens`` must not look at tokens that are not valid.
    """

    @abstractmethod
    def tokenize(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T D"] | None = None,
        padding_mask: Bool[Tensor, "B T"] | None = None,
        times: Float[Tensor, "B T"] | None = None,
        counts: Float[Tensor, "B T D"] | None = None,
    ) -> Tokens:
        """The cheap part: input tokens."""

    @abstractmethod
    def encode_tokens(self, tokens: Tokens) -> Tokens:
        """The expensive part: the same tokens in the same order, each knowing of the others."""

    def encode(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T D"] | None = None,
        padding_mask: Bool[Tensor, "B T"] | None = None,
        times: Float[Tensor, "B T"] | None = None,
        counts: Float[Tensor, "B T D"] | None = None,
    ) -> Tokens:
        """``encode_tokens(tokenize(...))``."""
        return self.encode_tokens(self.tokenize(x, mask, padding_mask, times, counts))


def step_tokens(embedding: Float[Tensor, "B T H"], stay: StayInputs) -> Tokens:
    """One token a time step, 0 where the step is padding."""
    valid = stay.padding_mask
    embedding = embedding.masked_fill(~valid.unsqueeze(-1), 0.0)
    return Tokens(embedding, valid, stay.times, torch.full_like(valid, STEP, dtype=torch.int64))


ENCODER_REGISTRY: Registry[type[BaseEncoder]] = Registry("encoder", "slices.encoders")
ENCODER_CONFIG_REGISTRY: Registry[type[EncoderConfig]] = Registry("encoder", "slices.encoders")

E = TypeVar("E", bound=type[BaseEncoder])


def register_encoder(name: str, config: type[EncoderConfig]) -> Callable[[E], E]:
    """Class decorator: registers an encoder and its config under a name.

    A package that is installed beside this one announces the module that does so in the entry-point
    group ``slices.encoders``, under the same name.
    """

    def register(encoder: E) -> E:
        ENCODER_REGISTRY[name] = encoder
        ENCODER_CONFIG_REGISTRY[name] = config
        return encoder

    return register
