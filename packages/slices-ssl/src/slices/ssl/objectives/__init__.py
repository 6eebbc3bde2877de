"""The objectives, one a file; importing this registers them."""

from .barlow_twins import BarlowTwins, BarlowTwinsConfig
from .byol import BYOL, BYOLConfig
from .contrastive import Contrastive, ContrastiveConfig
from .dino import DINO, DINOConfig
from .duett import DuETT, DuETTConfig
from .forecast import Forecast, ForecastConfig
from .jepa import JEPA, JEPAConfig
from .lejepa import LeJEPA, LeJEPAConfig
from .mae import MAE, MAEConfig
from .neighbourhood import Neighbourhood, NeighbourhoodConfig
from .smart import SMART, SMARTConfig
from .sum import Sum, SumConfig
from .supervised_contrastive import SupervisedContrastive, SupervisedContrastiveConfig
from .time_to_event import TimeToEvent, TimeToEventConfig
from .ts2vec import TS2Vec, TS2VecConfig
from .vicreg import VICReg, VICRegConfig

__all__ = [
    "BYOL",
    "DINO",
    "JEPA",
    "MAE",
    "SMART",
    "BYOLConfig",
    "BarlowTwins",
    "BarlowTwinsConfig",
    "Contrastive",
    "ContrastiveConfig",
    "DINOConfig",
    "DuETT",
    "DuETTConfig",
    "Forecast",
    "ForecastConfig",
    "JEPAConfig",
    "LeJEPA",
    "LeJEPAConfig",
    "MAEConfig",
    "Neighbourhood",
    "NeighbourhoodConfig",
    "SMARTConfig",
    "Sum",
    "SumConfig",
    "SupervisedContrastive",
    "SupervisedContrastiveConfig",
    "TS2Vec",
    "TS2VecConfig",
    "TimeToEvent",
    "TimeToEventConfig",
    "VICReg",
    "VICRegConfig",
]
