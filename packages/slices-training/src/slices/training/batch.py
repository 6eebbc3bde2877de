"""From a batch to the arguments of a ``forward``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from slices.ssl.encoding import INPUTS


def keywords(batch: Mapping[str, Any], accepted: frozenset[str]) -> dict[str, Tensor]:
    """What a batch has, besides ``timeseries``, of the inputs and labels that a ``forward`` names."""
    known = (*INPUTS, "label", "label_mask")
    return {name: batch[name] for name in known if name in accepted and batch.get(name) is not None}
