"""Building blocks that architectures share."""

from .attention import TransformerBlock, TransformerBlocks, attention_mask, in_heads
from .bins import Bins, bins_of_span
from .continuous import ContinuousEmbedding
from .convolution import DilatedConv
from .dropout import Dropout
from .packing import Cells, observed_cells, rows_to_compute
from .pooling import make_pooling
from .summaries import N_SUMMARIES, summaries
from .time_embedding import TimeEmbedding

__all__ = [
    "N_SUMMARIES",
    "Bins",
    "Cells",
    "ContinuousEmbedding",
    "DilatedConv",
    "Dropout",
    "TimeEmbedding",
    "TransformerBlock",
    "TransformerBlocks",
    "attention_mask",
    "bins_of_span",
    "in_heads",
    "make_pooling",
    "observed_cells",
    "rows_to_compute",
    "summaries",
]
