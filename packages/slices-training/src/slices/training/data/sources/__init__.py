"""Where stays come from. Importing this registers the built-in sources."""

from slices.training.data.sources.base import (
    SOURCE_CONFIG_REGISTRY,
    SOURCE_REGISTRY,
    Part,
    Source,
    build_source,
    register_source,
)
from slices.training.data.sources.meds import MedsConfig, MedsSource
from slices.training.data.sources.physionet2012 import PhysioNet2012Config, PhysioNet2012Source
from slices.training.data.sources.pool import PoolConfig, PoolSource
from slices.training.data.sources.ricu import RicuConfig, RicuSource
from slices.training.data.sources.synthetic import SyntheticConfig, SyntheticSource
from slices.training.data.sources.table import TableConfig, TableSource

__all__ = [
    "SOURCE_CONFIG_REGISTRY",
    "SOURCE_REGISTRY",
    "MedsConfig",
    "MedsSource",
    "Part",
    "PhysioNet2012Config",
    "PhysioNet2012Source",
    "PoolConfig",
    "PoolSource",
    "RicuConfig",
    "RicuSource",
    "Source",
    "SyntheticConfig",
    "SyntheticSource",
    "TableConfig",
    "TableSource",
    "build_source",
    "register_source",
]
