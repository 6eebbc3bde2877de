"""Encoders for sparse, irregular clinical time series."""

from .base import BaseEncoder, EncoderConfig, SeparableEncoder, TokenEncoder, Tokens
from .checkpoint import EncoderCard, LoadedEncoder, load_encoder, read_card, save_encoder
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
from .tokens import STAY, STEP
from .transformer import TransformerConfig, TransformerEncoder

__all__ = [
    "ENCODER_CONFIG_REGISTRY",
    "ENCODER_REGISTRY",
    "STAY",
    "STEP",
    "BaseEncoder",
    "EncoderCard",
    "EncoderConfig",
    "GRUEncoder",
    "LSTMEncoder",
    "LinearConfig",
    "LinearEncoder",
    "LoadedEncoder",
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
    "load_encoder",
    "read_card",
    "register_encoder",
    "save_encoder",
]
