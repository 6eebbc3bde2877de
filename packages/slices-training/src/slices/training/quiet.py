"""Lightning without its tips and its notes on hardware: what was decided, we say ourselves."""

from __future__ import annotations

import logging
import warnings

# what lightning 2.6 warns of with torch 2.13, or takes for a mistake that it is not
KNOWN = (
    ".*isinstance.treespec, LeafSpec",
    "Found .* in eval mode",  # an EMA teacher, a frozen encoder
    "Checkpoint directory .* exists and is not empty",  # a resumed run writes into the folder that it left
    "Total length of `list` across ranks is zero",  # no validation stays, as asked
    "The number of training batches .* is smaller than the logging interval",  # epochs are logged too
)


def quiet_lightning() -> None:
    """Only its warnings, once each, and none that are known to mean nothing here."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        logger.propagate = False  # it has a handler of its own, Hydra's would repeat it
    for message in KNOWN:
        warnings.filterwarnings("ignore", message=message)
