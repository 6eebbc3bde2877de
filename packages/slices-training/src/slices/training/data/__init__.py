"""Stays as batches: sources, the dataset on disk, views, splits, labels and loaders."""

from slices.training.data.config import DataConfig
from slices.training.data.datamodule import DatasetInfo, StayDataModule, dataset_info
from slices.training.data.prepare import open_dataset, prepare_dataset
from slices.training.data.schema import Chunk, Repair, Tally, TaskInfo, Variable
from slices.training.data.sources import Part, Source, build_source, register_source
from slices.training.data.splits import SplitConfig
from slices.training.data.store import DatasetError, Manifest, StayStore

__all__ = [
    "Chunk",
    "DataConfig",
    "DatasetError",
    "DatasetInfo",
    "Manifest",
    "Part",
    "Repair",
    "Source",
    "SplitConfig",
    "StayDataModule",
    "StayStore",
    "Tally",
    "TaskInfo",
    "Variable",
    "build_source",
    "dataset_info",
    "open_dataset",
    "prepare_dataset",
    "register_source",
]
