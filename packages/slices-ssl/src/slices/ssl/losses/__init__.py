"""Losses as pure functions, and as thin modules, usable with no encoder at all.

Each averages over the items that count, of all ranks together: a rank's own value may differ, but the mean
over ranks (and, under DDP, the gradient) is that of one process with the whole batch. Where nothing counts
the loss is 0. Similarities and statistics are in float32 whatever comes in.
"""

from .averages import masked_mean
from .barlow_twins import BarlowTwinsLoss, barlow_twins_loss
from .contrast import (
    Contrast,
    NTXentLoss,
    TemporalNTXentLoss,
    instance_contrast,
    nt_xent,
    temporal_contrast,
    temporal_nt_xent,
)
from .dino import DINOLoss, dino_loss
from .events import EventLoss, MarkLoss, event_loss, mark_loss
from .hierarchical import HierarchicalLoss, hierarchical_loss
from .latent import CosineLoss, LatentLoss, cosine_loss, latent_loss
from .neighbours import NeighbourhoodLoss, neighbourhood_loss
from .reconstruction import (
    BalancedValueLoss,
    MaskedValueLoss,
    PresenceLoss,
    ValueLoss,
    balanced_value_loss,
    presence_loss,
    value_loss,
)
from .sigreg import SIGRegLoss, sigreg_loss
from .supervised_contrast import SupervisedContrastiveLoss, supervised_contrastive_loss
from .vicreg import VICRegLoss, vicreg_loss

__all__ = [
    "BalancedValueLoss",
    "BarlowTwinsLoss",
    "Contrast",
    "CosineLoss",
    "DINOLoss",
    "EventLoss",
    "HierarchicalLoss",
    "LatentLoss",
    "MarkLoss",
    "MaskedValueLoss",
    "NTXentLoss",
    "NeighbourhoodLoss",
    "PresenceLoss",
    "SIGRegLoss",
    "SupervisedContrastiveLoss",
    "TemporalNTXentLoss",
    "VICRegLoss",
    "ValueLoss",
    "balanced_value_loss",
    "barlow_twins_loss",
    "cosine_loss",
    "dino_loss",
    "event_loss",
    "hierarchical_loss",
    "instance_contrast",
    "latent_loss",
    "mark_loss",
    "masked_mean",
    "neighbourhood_loss",
    "nt_xent",
    "presence_loss",
    "sigreg_loss",
    "supervised_contrastive_loss",
    "temporal_contrast",
    "temporal_nt_xent",
    "value_loss",
    "vicreg_loss",
]
