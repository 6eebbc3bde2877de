"""The contract of an encoder: its two shapes and its tokens; and the registries.

Letters: ``B`` stays in a batch, ``T`` time steps, ``D`` variables, ``N`` tokens, ``H`` embedding
width. Masks: True means there. Times are hours since admission.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .config import EncoderConfig
from .inputs import StayInputs, complete, keep_statics_once, spread_statics
from .layers.pooling import make_pooling
from .registry import Registry
from .tokens import Tokens, latest_tokens, stay_token, step_tokens

__all__ = [
    "ENCODER_CONFIG_REGISTRY",
    "ENCODER_REGISTRY",
    "BaseEncoder",
    "EncoderConfig",
    "SeparableEncoder",
    "TokenEncoder",
    "Tokens",
    "register_encoder",
]


class BaseEncoder(nn.Module, ABC):
    """An encoder of clinical time series. A subclass needs ``forward`` and no more.

    ``forward(x, mask=None, padding_mask=None, times=None, counts=None)`` gives ``(B, T, H)`` with
    ``pooling="none"`` and ``(B, H)`` otherwise. It may name fewer arguments; ``encode`` passes ``x``
    first and, of the others, those it names (all, where it takes ``**kwargs``). Where H is not
    ``config.d_model``, override ``output_dim``.

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
        self._named = accepted(self.forward)

    blind_to: ClassVar[Mapping[str, str]] = {}
    """Of ``counts`` and ``times``, what cannot change the output, each with the reason.

    One that is blind to ``times`` still knows the gaps between steps: only a shift of all is nothing to it.
    """

    @property
    def output_dim(self) -> int:
        """The embedding width H."""
        return self.config.d_model

    @property
    def layer_patterns(self) -> tuple[tuple[str, ...], ...]:
        """The layers from the input up, each as shell patterns of parameter names; () where it has none.

        Fine-tuning may give layers different rates, or unfreeze one after the other. What no pattern
        names goes with the highest layer.
        """
        return ()

    @property
    def causal(self) -> bool:
        """With pooling "none": does changing anything after a step leave that step and all before alone?"""
        return False

    @property
    def static_length(self) -> str:
        """Why a graph of ``torch.export`` has one number of steps; "" where it takes any."""
        return ""

    def describe(self) -> str:
        """What it is, in a few lines for people."""
        config, known = self.config, {cls: name for name, cls in ENCODER_REGISTRY.items()}
        n_parameters = sum(parameter.numel() for parameter in self.parameters())
        statics = f", {len(config.static_columns)} of them static" if config.static_columns else ""
        per = "step" if config.pooling == "none" else "stay"
        lines = [
            f"{known.get(type(self), type(self).__name__)}: {n_parameters:,} parameters",
            f"{self.d_input} variables{statics}, to one embedding a {per}, {self.output_dim} wide "
            f"(pooling {config.pooling})",
            "causal: a step knows nothing of what comes later" if self.causal else "sees a stay whole",
        ]
        lines += [f"blind to {what}: {why}" for what, why in self.blind_to.items()]
        return "\n".join(lines)

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
        embedding: Tensor = self.forward(stay.x, **{name: getattr(stay, name) for name in self._named})
        if embedding.shape[-1] != self.output_dim:
            raise ValueError(
                f"{type(self).__name__}.forward gives width {embedding.shape[-1]}, but output_dim is "
                f"{self.output_dim}: override the output_dim property"
            )
        if embedding.ndim == 3:
            return step_tokens(embedding, stay)
        return stay_token(embedding, stay)


def accepted(forward: Callable[..., Tensor]) -> tuple[str, ...]:
    """What a ``forward`` takes of a stay besides its first argument."""
    _, *others = inspect.signature(forward).parameters.values()
    anything = any(other.kind is other.VAR_KEYWORD for other in others)
    names = {
        other.name for other in others if other.kind in (other.POSITIONAL_OR_KEYWORD, other.KEYWORD_ONLY)
    }
    return tuple(name for name in StayInputs._fields[1:] if anything or name in names)


class TokenEncoder(BaseEncoder):
    """An encoder that defines ``encode_stay``; ``forward`` pools what that gives."""

    statics_once: ClassVar[bool] = False
    """Do its stays have the statics at the first real step alone? Otherwise every real step sees them."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.pool = make_pooling(config.pooling, self.output_dim)
        static = torch.zeros(self.d_input, dtype=torch.bool)
        static[list(config.static_columns)] = True
        self.static: Tensor
        self.register_buffer("static", static, persistent=False)

    @property
    def tokens_are_steps(self) -> bool:
        """Is there one token a step, in their order? Otherwise a step is given the ``latest_tokens``."""
        return True

    @abstractmethod
    def encode_stay(self, stay: StayInputs) -> Tokens:
        """The tokens before pooling, of stays with nothing left out, and 0 where nothing must be seen."""

    def encode(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T D"] | None = None,
        padding_mask: Bool[Tensor, "B T"] | None = None,
        times: Float[Tensor, "B T"] | None = None,
        counts: Float[Tensor, "B T D"] | None = None,
    ) -> Tokens:
        """The tokens before pooling."""
        return self.encode_stay(self.inputs(x, mask, padding_mask, times, counts))

    def inputs(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T D"] | None = None,
        padding_mask: Bool[Tensor, "B T"] | None = None,
        times: Float[Tensor, "B T"] | None = None,
        counts: Float[Tensor, "B T D"] | None = None,
    ) -> StayInputs:
        """The stay with nothing missing. ``ValueError`` for wrong shapes, or x wider than the weights."""
        if x.shape[-1] != self.d_input:
            raise ValueError(f"x has {x.shape[-1]} variables, the encoder was built for {self.d_input}")
        weights = next(self.parameters()).dtype
        if x.dtype == torch.float64 != weights:
            raise ValueError(f"x is {x.dtype}, the weights {weights}: use x.float(), or encoder.double()")
        stay = complete(x, mask, padding_mask, times, counts)
        if not self.config.static_columns:
            return stay
        return (keep_statics_once if self.statics_once else spread_statics)(stay, self.static)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T D"] | None = None,
        padding_mask: Bool[Tensor, "B T"] | None = None,
        times: Float[Tensor, "B T"] | None = None,
        counts: Float[Tensor, "B T D"] | None = None,
    ) -> Tensor:
        """See ``BaseEncoder.forward``."""
        stay = self.inputs(x, mask, padding_mask, times, counts)
        tokens = self.encode_stay(stay)
        if self.config.pooling == "none" and not self.tokens_are_steps:
            return latest_tokens(tokens, stay.times, stay.padding_mask)
        pooled: Tensor = self.pool(tokens.embedding, tokens.valid)
        return pooled


class SeparableEncoder(TokenEncoder):
    """An encoder whose tokens can be dropped before the expensive part.

    The law: hide at the input, ``tokenize``, drop tokens that are not valid, ``encode_tokens`` is the
    same as ``encode_tokens`` of all of them. So a token may depend on its own step, on statics and
    on other visible input, and ``encode_tokens`` must not look at tokens that are not valid.
    """

    @abstractmethod
    def tokenize_stay(self, stay: StayInputs) -> Tokens:
        """The cheap part: input tokens, of stays as in ``encode_stay``."""

    @abstractmethod
    def encode_tokens(self, tokens: Tokens) -> Tokens:
        """The expensive part: the same tokens in the same order, each knowing of the others."""

    def tokenize(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T D"] | None = None,
        padding_mask: Bool[Tensor, "B T"] | None = None,
        times: Float[Tensor, "B T"] | None = None,
        counts: Float[Tensor, "B T D"] | None = None,
    ) -> Tokens:
        """The cheap part: input tokens."""
        return self.tokenize_stay(self.inputs(x, mask, padding_mask, times, counts))

    def encode_stay(self, stay: StayInputs) -> Tokens:
        """``encode_tokens(tokenize_stay(stay))``."""
        return self.encode_tokens(self.tokenize_stay(stay))


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
