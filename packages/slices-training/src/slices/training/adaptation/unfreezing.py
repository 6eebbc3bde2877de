"""Which layers of an encoder are trained, and from when on."""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase

from slices.encoders import BaseEncoder
from slices.training.adaptation.config import FineTuningConfig
from slices.training.errors import UserError

Layers = tuple[tuple[str, ...], ...]


def layers_above(name: str, layers: Layers) -> int:
    """How many layers lie above a parameter's own; what belongs to none goes with the highest.

    >>> [layers_above(name, (("embed.*",), ("block.*",))) for name in ("embed.weight", "block.bias", "norm")]
    [1, 0, 0]
    """
    for above, patterns in enumerate(reversed(layers)):
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            return above
    return 0


def trained_layers(training: FineTuningConfig, epoch: int, n_layers: int) -> int:
    """How many of an encoder's layers are trained in an epoch, counted from the highest.

    >>> gradual = FineTuningConfig(unfreeze_epoch=2, unfreeze_every=3)
    >>> [trained_layers(gradual, epoch, 3) for epoch in range(10)]
    [0, 0, 1, 1, 1, 2, 2, 2, 3, 3]
    """
    if not training.freeze_encoder:
        return n_layers
    if training.unfreeze_epoch is None or epoch < training.unfreeze_epoch:
        return 0
    if training.unfreeze_every is None:
        return n_layers
    return min(n_layers, 1 + (epoch - training.unfreeze_epoch) // training.unfreeze_every)


def train_layers(encoder: BaseEncoder, n_layers: int, always: Collection[str] = ()) -> None:
    """Lets the highest layers learn, and the parameters named; freezes the others."""
    for name, parameter in encoder.named_parameters():
        below = layers_above(name, encoder.layer_patterns) >= n_layers
        parameter.requires_grad_(name in always or not below)


def count_layers(encoder: BaseEncoder, training: FineTuningConfig) -> int:
    """The layers that the encoder states; 1 where it states none.

    Raises:
        UserError: they are to be unfrozen one by one, and it states none.
    """
    if training.unfreeze_every is not None and not encoder.layer_patterns:
        raise UserError(
            f"training.unfreeze_every={training.unfreeze_every}: {type(encoder).__name__} states no layers "
            "(layer_patterns): use null to unfreeze it at once"
        )
    return len(encoder.layer_patterns) or 1
