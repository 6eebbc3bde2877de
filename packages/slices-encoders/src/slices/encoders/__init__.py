"""Encoders for sparse, irregular clinical time series."""

from .attribution import attention_maps, integrated_gradients
from .base import BaseEncoder, EncoderConfig, SeparableEncoder, TokenEncoder, Tokens
from .checkpoint import EncoderCard, LoadedEncoder, load_encoder, read_card, save_encoder
from .duett import DuETTConfig, DuETTEncoder
from .factory import (
    ENCODER_CONFIG_REGISTRY,
    ENCODER_REGISTRY,
    build_encoder,
    list_encoders,
    register_encoder,
)
from .flowsheet import FlowsheetConfig, FlowsheetEncoder
from .gru_d import GRUDConfig, GRUDEncoder
from .inputs import StayInputs
from .linear import LinearConfig, LinearEncoder
from .mamba import MambaConfig, MambaEncoder
from .mtand import MTANDConfig, MTANDEncoder
from .normalizer import Normalizer
from .observation_transformer import ObservationTransformerConfig, ObservationTransformerEncoder
from .patch_transformer import PatchTransformerConfig, PatchTransformerEncoder
from .pretrained import from_pretrained, pull, push, save_pretrained
from .rnn import GRUEncoder, LSTMEncoder, RNNConfig
from .smart import SMARTConfig, SMARTEncoder
from .tcn import TCNConfig, TCNEncoder
from .tokens import STAY, STEP
from .transformer import TransformerConfig, TransformerEncoder
from .ts2vec import TS2VecConfig, TS2VecEncoder

__all__ = [
    "ENCODER_CONFIG_REGISTRY",
    "ENCODER_REGISTRY",
    "STAY",
    "STEP",
    "BaseEncoder",
    "DuETTConfig",
    "DuETTEncoder",
    "EncoderCard",
    "EncoderConfig",
    "FlowsheetConfig",
    "FlowsheetEncoder",
    "GRUDConfig",
    "GRUDEncoder",
    "GRUEncoder",
    "LSTMEncoder",
    "LinearConfig",
    "LinearEncoder",
    "LoadedEncoder",
    "MTANDConfig",
    "MTANDEncoder",
    "MambaConfig",
    "MambaEncoder",
    "Normalizer",
    "ObservationTransformerConfig",
    "ObservationTransformerEncoder",
    "PatchTransformerConfig",
    "PatchTransformerEncoder",
    "RNNConfig",
    "SMARTConfig",
    "SMARTEncoder",
    "SeparableEncoder",
    "StayInputs",
    "TCNConfig",
    "TCNEncoder",
    "TS2VecConfig",
    "TS2VecEncoder",
    "TokenEncoder",
    "Tokens",
    "TransformerConfig",
    "TransformerEncoder",
    "attention_maps",
    "build_encoder",
    "from_pretrained",
    "integrated_gradients",
    "list_encoders",
    "load_encoder",
    "pull",
    "push",
    "read_card",
    "register_encoder",
    "save_encoder",
    "save_pretrained",
]
