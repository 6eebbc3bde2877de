"""From a batch to the arguments of a ``forward``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

# a batch's key for each input of an encoder, an objective or a module
INPUTS = {
    "x": "timeseries",
    "mask": "mask",
    "padding_mask": "padding_mask",
    "times": "times",
    "counts": "counts",
}


def accepted_inputs(module: nn.Module) -> frozenset[str]:
    """Which of the inputs, and ``draw``, the module's ``forward`` names. Look it up once."""
    parameters = inspect.signature(module.forward).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return frozenset(INPUTS) | {"draw"}
    return frozenset(parameters) & (frozenset(INPUTS) | {"draw"})


def inputs_of(batch: Mapping[str, Any], accepted: frozenset[str]) -> dict[str, Tensor]:
    """The tensors of a batch that a ``forward`` names, under its names for them."""
    return {name: batch[key] for name, key in INPUTS.items() if name in accepted and key in batch}
