"""Building blocks that architectures share."""

from .attention import TransformerBlock, attention_mask
from .pooling import make_pooling
from .time_embedding import TimeEmbedding

__all__ = ["TimeEmbedding", "TransformerBlock", "attention_mask", "make_pooling"]
