"""The contract of a self-supervised objective, and the registry of them.

Letters: B stays, T time steps, D variables, H embedding width. True = there, in every mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .checks import require, require_at_least
from .encoding import StayInputs, TokenReader, Tokens, complete, presence
from .registry import Registry
from .viewing import Pair, Viewing


@dataclass(kw_only=True)
class SSLConfig:
    """What every objective is told.

    Args:
        name: the name the objective is registered under.
        static_columns: columns observed once per stay, at its first real step; never scored.
        d_input: D; needed only where the encoder's own ``config.d_input`` does not say it.
    """

    name: str = ""
    static_columns: tuple[int, ...] = ()
    d_input: int | None = None

    def __post_init__(self) -> None:
        self.static_columns = tuple(self.static_columns)
        require(self, "static_columns", min(self.static_columns, default=0) >= 0, "counted from 0")
        require_at_least(self, 1, "d_input")


class Predicted(NamedTuple):
    """What an objective says of values that it was not shown."""

    values: Float[Tensor, "B T D"]
    asked: Bool[Tensor, "B T D"]
    """True = it was asked for this cell, whether anything was measured there or not."""


class BaseSSLObjective(nn.Module):
    """A self-supervised objective around an encoder: it views a batch, then scores what it has seen.

    Subclasses define ``score``, or ``forward`` and ``draw``. They never log, change the batch or wait for
    the device.

    Args:
        encoder: any module that meets :class:`~slices.ssl.encoding.Encoder`.
        config: the objective's own dataclass.
        viewing: what the encoder is shown of a batch; without one the subclass defines ``forward`` itself.

    Raises:
        TypeError: the encoder lacks something (everything that it lacks is named).
        ValueError: the configs of encoder and objective do not fit together.
    """

    dynamic: Tensor
    """``(D,)`` or, where no column is static, ``(1,)``: True for the columns that change with time."""

    def __init__(self, encoder: nn.Module, config: SSLConfig, viewing: Viewing | None = None) -> None:
        super().__init__()
        self.read = TokenReader(encoder)
        self.encoder = encoder
        self.config = config
        self.viewing = viewing
        self.d_input = _d_input(encoder, config)
        self.register_buffer("dynamic", _dynamic(self.d_input, config.static_columns), persistent=False)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T D"],
        padding_mask: Bool[Tensor, "B T"] | None = None,
        times: Float[Tensor, "B T"] | None = None,
        counts: Float[Tensor, "B T D"] | None = None,
        draw: Any = None,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The loss, and metrics as detached 0-d tensors (the loss is not among them).

        ``draw`` is what :meth:`draw` returned for this batch; without one it is drawn here, from the
        global generator. Given a draw the result is deterministic, dropout apart. A subclass may name
        fewer inputs: callers pass only what its ``forward`` names.
        """
        return self.score(self.see(x, mask, padding_mask, times, counts, draw))

    def see(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T D"],
        padding_mask: Bool[Tensor, "B T"] | None = None,
        times: Float[Tensor, "B T"] | None = None,
        counts: Float[Tensor, "B T D"] | None = None,
        draw: Any = None,
    ) -> Any:
        """What the viewing gives of a batch, to be scored."""
        if self.viewing is None:
            raise NotImplementedError(f"{type(self).__name__} defines no forward, and has no viewing")
        inputs = complete(x, mask, padding_mask, times, counts)
        if draw is None:
            draw = self.viewing.draw(inputs, self.dynamic)
        return self.viewing(self.encode, inputs, self.dynamic, draw)

    def score(self, seen: Any) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Loss and metrics of what was seen."""
        raise NotImplementedError(f"{type(self).__name__} defines neither forward nor score")

    def predict_values(self, *inputs: Any, **named: Any) -> Predicted:
        """The values of what a draw hides, to be looked at; it takes what :meth:`see` takes.

        Raises ``TypeError`` where the objective predicts none.
        """
        if not self.predicts_values:
            raise TypeError(f"{self.config.name} predicts no values: mae, duett and forecast do")
        return self.predicted(self.see(*inputs, **named))

    @property
    def predicts_values(self) -> bool:
        """Can it be asked for the values of what is hidden?"""
        return type(self).predicted is not BaseSSLObjective.predicted

    def predicted(self, seen: Any) -> Predicted:
        """The values of what was hidden of what was seen."""
        raise NotImplementedError(f"{type(self).__name__} predicts no values")

    def draw(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B T D"],
        padding_mask: Bool[Tensor, "B T"] | None = None,
        times: Float[Tensor, "B T"] | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Any, ...] | None:
        """All the chance in one step: a (nested) named tuple of tensors that lead with B, or None."""
        if self.viewing is None:
            return None
        observed, real = presence(mask, padding_mask)
        if times is None:
            times = torch.arange(x.shape[1], dtype=torch.float32, device=x.device).expand(x.shape[:2])
        return self.viewing.draw(StayInputs(x, observed, real, times, observed), self.dynamic, generator)

    def on_optimizer_step(self, step: int, total_steps: int) -> None:
        """Called after each optimizer step, number ``step`` of ``total_steps`` (from 1); for teachers."""

    @property
    def reads_labels(self) -> bool:
        """Does its ``forward`` make use of ``label`` and ``label_mask``?"""
        return False

    def encode(self, inputs: StayInputs, max_steps: int | None = None) -> Tokens:
        """The encoder's tokens, of at most ``max_steps`` real steps per stay."""
        return self.read(self.encoder, inputs, max_steps)

    @property
    def n_token_variables(self) -> int:
        """D, or 0 where no token can stand for a single variable; ``ValueError`` where D is not known."""
        # Only an encoder with tokens of its own can have such.
        return self.need_d_input("asks for tokens by variable") if self.read.has_tokens else 0

    def need_steps(self, seen: Pair) -> None:
        """Raise ``ValueError`` where there is one token a stay, and so no embedding of a step."""
        if seen.tokens.embedding.shape[1] == 1 < seen.max_steps:
            raise ValueError(
                f"{self.config.name} tells steps apart, so it needs an embedding per step, and "
                f'{type(self.encoder).__name__} gives one per stay: choose pooling="none" for it, or an '
                "objective of whole stays"
            )

    def need_d_input(self, why: str) -> int:
        """D, or a ``ValueError`` that says why it is needed."""
        if self.d_input is None:
            raise ValueError(
                f"{type(self).__name__} {why}, so it needs the number of input variables: set d_input in its "
                f"config ({type(self.encoder).__name__} has no config.d_input to take it from)"
            )
        return self.d_input


SSL_REGISTRY: Registry[type[BaseSSLObjective]] = Registry("SSL objective", "slices.ssl")
"""Objectives by name. Other packages announce theirs in the entry-point group ``slices.ssl``."""
CONFIG_REGISTRY: Registry[type[SSLConfig]] = Registry("SSL objective", "slices.ssl")
"""Their configs, by the same names."""

Objective = TypeVar("Objective", bound=type[BaseSSLObjective])


def register_objective(name: str, config: type[SSLConfig]) -> Callable[[Objective], Objective]:
    """Register the decorated class, and its config, as ``name``.

    >>> @register_objective("nothing", SSLConfig)
    ... class Nothing(BaseSSLObjective):
    ...     def forward(self, x, mask):
    ...         return 0.0 * self.encoder(x).sum(), {}
    >>> SSL_REGISTRY.pop("nothing") is Nothing, CONFIG_REGISTRY.pop("nothing") is SSLConfig
    (True, True)
    """

    def register(objective: Objective) -> Objective:
        SSL_REGISTRY[name], CONFIG_REGISTRY[name] = objective, config
        return objective

    return register


def _d_input(encoder: nn.Module, config: SSLConfig) -> int | None:
    known = getattr(getattr(encoder, "config", None), "d_input", None)
    if known is not None and config.d_input is not None and known != config.d_input:
        raise ValueError(f"the encoder takes d_input={known} variables, the objective {config.d_input}")
    return config.d_input if known is None else int(known)


def _dynamic(d_input: int | None, static_columns: tuple[int, ...]) -> Tensor:
    if not static_columns:
        return torch.ones(1, dtype=torch.bool)
    if d_input is None or max(static_columns) >= d_input:
        raise ValueError(
            f"static_columns={static_columns} do not fit d_input={d_input}: columns count from 0"
        )
    dynamic = torch.ones(d_input, dtype=torch.bool)
    dynamic[list(static_columns)] = False
    return dynamic
