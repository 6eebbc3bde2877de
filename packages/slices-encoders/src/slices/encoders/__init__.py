"""Encoders for sparse, irregular clinical time series."""

from .base import STAY, STEP, BaseEncoder, EncoderConfig, SeparableEncoder, TokenEncoder, Tokens
from .factory import (
    ENCODER_CONFIG_REGISTRY,
    ENCODER_REGISTRY,
    build_encoder,
    list_encoders,
    register_encoder,
)
from .inputs import StayInputs
from .linear import LinearConfig, LinearEncoder
from .normalizer import Normalizer
from .rnn import GRUEncoder, LSTMEncoder, RNNConfig
from .transformer import TransformerConfig, TransformerEncoder

__all__ = [
    "ENCODER_CONFIG_REGISTRY",
    "ENCODER_REGISTRY",
    "STAY",
    "STEP",
    "BaseEncoder",
    "EncoderConfig",
    "GRUEncoder",
    "LSTMEncoder",
    "LinearConfig",
    "LinearEncoder",
    "Normalizer",
    "RNNConfig",
    "SeparableEncoder",
    "StayInputs",
    "TokenEncoder",
    "Tokens",
    "TransformerConfig",
    "TransformerEncoder",
    "build_encoder",
    "list_encoders",
    "register_encoder",
]
