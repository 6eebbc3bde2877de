"""Pretraining and fine-tuning of encoders for clinical time series.

Names are imported on first use, so that ``--help`` and ``--cfg job`` need not load Lightning.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slices.training.data.datamodule import StayDataModule
    from slices.training.finetuning import FineTuneModule
    from slices.training.pretraining import SSLPretrainModule

__all__ = ["FineTuneModule", "SSLPretrainModule", "StayDataModule"]

_HOME = {
    "FineTuneModule": "slices.training.finetuning",
    "SSLPretrainModule": "slices.training.pretraining",
    "StayDataModule": "slices.training.data.datamodule",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
