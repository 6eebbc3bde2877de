"""Fine-tuned models in use: one file, and what it predicts of new stays."""

from .ensemble import Ensemble
from .file import load_model, save_model
from .info import ModelInfo, ModelTask, ViewConfig
from .model import TrainedModel

__all__ = [
    "Ensemble",
    "ModelInfo",
    "ModelTask",
    "TrainedModel",
    "ViewConfig",
    "load_model",
    "save_model",
]
