"""What the configs of encoders derive from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

PoolingName = Literal["none", "mean", "max", "cls", "last", "attention"]
MOST_LAYERS = 1_000  # more would take minutes to make, and files of them be more than is read


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
        require(self.d_input is None or self.d_input >= 1, f"d_input must be at least 1, got {self.d_input}")
        require(self.d_model >= 1, f"d_model must be at least 1, got {self.d_model}")
        deep = 1 <= self.n_layers <= MOST_LAYERS
        require(deep, f"n_layers must be at least 1 and at most {MOST_LAYERS:,}, got {self.n_layers}")
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


@dataclass(kw_only=True)
class AttentionConfig(EncoderConfig):
    """What the config of an encoder with transformer blocks holds.

    Attributes:
        n_heads: attention heads; must divide ``d_model``.
        d_ff: width of the feed-forward nets; None means ``4 * d_model``.
    """

    n_heads: int = 4
    d_ff: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.n_heads >= 1, f"n_heads must be at least 1, got {self.n_heads}")
        require(
            self.d_model % self.n_heads == 0,
            f"d_model must be a multiple of n_heads, got d_model={self.d_model} and n_heads={self.n_heads}",
        )
        require(self.d_ff is None or self.d_ff >= 1, f"d_ff must be at least 1 or None, got {self.d_ff}")


def require(condition: bool, message: str) -> None:
    """Raises ``ValueError(message)`` unless the condition holds."""
    if not condition:
        raise ValueError(message)
