"""Self-supervised objectives for irregular clinical time series, on any encoder."""

from .base import BaseSSLObjective, SSLConfig
from .contrastive import Contrastive, ContrastiveConfig
from .encoding import Encoder, StayInputs, TokenReader, Tokens, accepted_inputs, check_encoder
from .factory import (
    CONFIG_REGISTRY,
    SSL_REGISTRY,
    build_ssl_objective,
    list_objectives,
    register_objective,
)
from .jepa import JEPA, JEPAConfig
from .mae import MAE, MAEConfig
from .teacher import Teacher

__all__ = [
    "CONFIG_REGISTRY",
    "JEPA",
    "MAE",
    "SSL_REGISTRY",
    "BaseSSLObjective",
    "Contrastive",
    "ContrastiveConfig",
    "Encoder",
    "JEPAConfig",
    "MAEConfig",
    "SSLConfig",
    "StayInputs",
    "Teacher",
    "TokenReader",
    "Tokens",
    "accepted_inputs",
    "build_ssl_objective",
    "check_encoder",
    "list_objectives",
    "register_objective",
]
