"""Which parameters an optimizer moves at which rate, and which it lets decay."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, NamedTuple

from torch import nn

from slices.encoders import BaseEncoder
from slices.training.adaptation.unfreezing import layers_above

log = logging.getLogger(__name__)

Groups = list[dict[str, Any]]


class Setting(NamedTuple):
    """The rate of a parameter, and whether the optimizer's weight decay is for it."""

    lr: float
    decays: bool = True


def parameter_groups(parameters: Iterable[tuple[nn.Parameter, Setting]]) -> Groups:
    """The groups that an optimizer takes: parameters of like settings together, in order of appearance.

    Biases, the gains of norms and whatever else has at most one dimension never decay: they do not make
    a model complex, and a gain that is pulled to 0 works against the layer it scales (He et al., "Bag of
    tricks for image classification", 2019, section 3.1).

    >>> layer = nn.Linear(2, 3)
    >>> groups = parameter_groups((p, Setting(0.1)) for p in layer.parameters())
    >>> [(len(group["params"]), group["lr"], group.get("weight_decay")) for group in groups]
    [(1, 0.1, None), (1, 0.1, 0.0)]
    """
    groups: dict[Setting, list[nn.Parameter]] = {}
    for parameter, setting in parameters:
        setting = setting._replace(decays=setting.decays and parameter.ndim > 1)
        groups.setdefault(setting, []).append(parameter)
    return [
        {"params": members, "lr": setting.lr, **({} if setting.decays else {"weight_decay": 0.0})}
        for setting, members in groups.items()
    ]


def encoder_settings(
    encoder: BaseEncoder, lr: float, layer_decay: float, *, decays: bool = True
) -> list[tuple[nn.Parameter, Setting]]:
    """Each parameter of an encoder with its rate: ``lr`` times ``layer_decay`` for each layer above it.

    What belongs to no layer (a last norm, a learned pooling) goes with the highest. An encoder that states no
    layers has one rate, which is said. ``decays``: is the optimizer's weight decay for it?
    """
    layers = encoder.layer_patterns
    if layer_decay < 1 and not layers:
        log.warning(
            "training.layer_decay=%g: %s states no layers: one rate", layer_decay, type(encoder).__name__
        )
    return [
        (parameter, Setting(lr * layer_decay ** layers_above(name, layers), decays))
        for name, parameter in encoder.named_parameters()
    ]
