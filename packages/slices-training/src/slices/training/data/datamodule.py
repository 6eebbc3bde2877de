"""Batches of stays for Lightning."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as L
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slices.encoders import Normalizer
from slices.training.data.columns import Columns, match_columns
from slices.training.data.config import DataConfig
from slices.training.data.labels import TaskLabels, label_subset, task_labels
from slices.training.data.loader import StayLoader, StaySampler, rank_and_world_size
from slices.training.data.prepare import open_dataset, prepare_dataset
from slices.training.data.schema import TaskInfo
from slices.training.data.splits import refuse_empty, split_stays
from slices.training.data.statistics import fit_normalizer
from slices.training.data.store import Manifest
from slices.training.data.views import View

log = logging.getLogger(__name__)
Index = npt.NDArray[np.int64]


class DatasetInfo(NamedTuple):
    """What can be known of a dataset without preparing it."""

    variables: tuple[str, ...]
    units: tuple[str, ...]
    static_columns: tuple[int, ...]
    tasks: dict[str, TaskInfo]


def dataset_info(config: DataConfig) -> DatasetInfo:
    """Variables and tasks: from the manifest where the dataset is prepared, else from its source."""
    directory, source = Path(config.dataset_dir), config.build_source()
    prepared = Manifest.read(directory) if directory.exists() else None
    columns = match_columns(prepared.variables if prepared else source.variables)
    tasks = prepared.tasks if prepared else source.task_infos()
    return DatasetInfo(columns.names, columns.units, columns.static, tasks)


class StayDataModule(L.LightningDataModule):
    """Stays of one dataset as batches, split by patient and normalised.

    Args:
        config: the data section of a config.
        task: name of the task whose labels the batches carry; stays without a label are then left out.
        variables: the columns an encoder expects, by name and in order. By default the dataset's own.
        adapt_variables: allow the dataset to differ from ``variables``: columns it lacks are unobserved,
            variables it has besides are dropped, and both are logged.
        normalizer: the one of a checkpoint; by default fitted on the events of the training split.
        seed: of the order in which training goes through the stays.

    After ``setup``: ``store``, ``view``, ``variables``, ``units``, ``static_columns``, ``normalizer``,
    ``task`` and ``splits``.
    """

    def __init__(
        self,
        config: DataConfig,
        *,
        task: str | None = None,
        variables: Sequence[str] | None = None,
        adapt_variables: bool = False,
        normalizer: Normalizer | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if task is None and config.label_fraction < 1:
            raise ValueError(
                f"data.label_fraction={config.label_fraction} needs a task: there are no labels here"
            )
        self.config = config
        self.task_name = task
        self.wanted = None if variables is None else tuple(variables)
        self.adapt_variables = adapt_variables
        self.given_normalizer = normalizer
        self.seed = seed
        self.labels: TaskLabels | None = None
        self.task: TaskInfo | None = None
        self._ready = False

    def prepare_data(self) -> None:
        """Prepare the dataset where it is absent."""
        if not Path(self.config.dataset_dir).exists():
            log.info("no dataset at %s yet: preparing it", self.config.dataset_dir)
            prepare_dataset(self.config.build_source(), self.config.dataset_dir)

    def setup(self, stage: str | None = None) -> None:
        """Open the dataset, split it, match variables, lay out labels, fit the normaliser. Runs once."""
        if self._ready:
            return
        config = self.config
        self.store = open_dataset(config.build_source(), config.dataset_dir)
        self._take_columns(match_columns(self.store.variables, self.wanted, adapt=self.adapt_variables))
        self.splits = split_stays(self.store.patient_id, self.store.stays["set"].to_list(), config.splits)
        refuse_empty(self.splits, config.splits, "stays")
        self._fitted_on = self.splits["train"]  # with or without a label
        self.normalizer = self.given_normalizer or self._fitted_normalizer()
        if self.task_name is not None:
            self._take_labels(self.task_name)
        self._ready = True

    def _take_columns(self, columns: Columns) -> None:
        config = self.config
        self.variables, self.units, self.static_columns = columns.names, columns.units, columns.static
        self.absent_columns = columns.absent
        self.view = View(
            column=columns.of_variable,
            static=columns.is_static,
            summed=columns.is_summed,
            resolution=config.bin_width,
            horizon=config.horizon,
            max_steps=config.max_steps,
            aggregate=config.aggregate,
        )

    def feed(self, variables: Sequence[str], units: Sequence[str] = (), *, adapt: bool = False) -> None:
        """From here on, give the columns that an encoder expects: matched by name, in its order.

        Raises ``ValueError`` where the dataset has other variables (unless ``adapt``) or other units.
        """
        columns = match_columns(self.store.variables, variables, units, adapt=adapt or self.adapt_variables)
        if columns.names != self.variables:
            self._take_columns(columns)
            self.normalizer = self._fitted_normalizer()

    @property
    def normalizer(self) -> Normalizer:
        """What values go through; it can be set to that of a checkpoint."""
        return self._normalizer

    @normalizer.setter
    def normalizer(self, normalizer: Normalizer) -> None:
        if (width := len(normalizer.location)) != len(self.variables):
            raise ValueError(
                f"the normalizer has {width} variables, the data {len(self.variables)}: pass `variables` too"
            )
        self._normalizer = normalizer

    def _fitted_normalizer(self) -> Normalizer:
        return fit_normalizer(self.store, self.view, self._fitted_on)

    def _take_labels(self, name: str) -> None:
        config = self.config
        labels = task_labels(self.store, name, n_steps=self.view.n_steps, resolution=self.view.resolution)
        self.task, self.labels = self.store.manifest.tasks[name], labels
        self.splits = {split: stays[labels.labelled[stays]] for split, stays in self.splits.items()}
        refuse_empty(self.splits, config.splits, f"stays with a label for {name!r}")
        if config.label_fraction < 1:  # validation labels choose the epoch: they cost as much as others
            self.splits |= {split: self._labelled_share(split) for split in ("train", "val")}

    def _labelled_share(self, split: str) -> Index:
        config, stays = self.config, self.splits[split]
        assert self.labels is not None and self.task is not None
        if not len(stays):
            return stays
        labels, stay_id = self.labels.take(stays), self.store.stay_id[stays]
        return stays[label_subset(labels, self.task, stay_id, config.label_fraction, config.label_seed)]

    @property
    def sizes(self) -> dict[str, int]:
        """Stays in each split."""
        return {name: len(stays) for name, stays in self.splits.items()}

    def split_ids(self, split: str) -> Index:
        """The stay ids of a split."""
        return self.store.stay_id[self.splits[split]]

    def train_labels(self) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Labels of the training split and their mask, as in ``TaskLabels``, e.g. for class weights."""
        if self.labels is None:
            raise ValueError("there are no labels: the data module was made without a task")
        return self.labels.label[self.splits["train"]], self.labels.mask[self.splits["train"]]

    def fingerprint(self) -> dict[str, Any]:
        """Which data and which split this is, as values that JSON gives back equal.

        Sets of stays are sorted, since neither their order nor naming one twice makes another split.
        """
        config = self.config
        sets = {name: sorted(set(getattr(config.splits, name))) for name in ("train_sets", "test_sets")}
        return {
            "source": self.store.manifest.source["name"],
            "dataset": self.store.manifest.fingerprint,
            "splits": dataclasses.asdict(config.splits) | sets,
            "resolution": config.resolution,
            "horizon": config.horizon,
            "max_steps": config.max_steps,
            "aggregate": config.aggregate,
        }

    def cut(self, stays: Index, *, normalize: bool = True) -> dict[str, Tensor]:
        """One batch of the stays at these positions of the store; ``normalize=False`` keeps raw units."""
        until = None if self.labels is None else self.labels.until[stays]
        batch = self.view.cut(self.store, stays, until)
        if normalize:
            with torch.no_grad():
                batch["timeseries"] = self.normalizer(batch["timeseries"], batch["mask"])
        if self.labels is not None:
            batch["label"] = torch.from_numpy(self.labels.label[stays])
            batch["label_mask"] = torch.from_numpy(self.labels.mask[stays])
        return batch

    def loader(self, split: str, *, shuffle: bool = False) -> StayLoader:
        """Batches of one split."""
        rank, world_size = rank_and_world_size()
        sampler = StaySampler(
            self.splits[split],
            self.config.batch_size,
            shuffle=shuffle,
            even=not shuffle and self.labels is None,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
        )
        return StayLoader(self.cut, sampler)

    def train_dataloader(self) -> StayLoader:
        return self.loader("train", shuffle=True)

    def val_dataloader(self) -> StayLoader | list[StayLoader]:
        """Empty where ``val_fraction`` is 0."""
        return self.loader("val") if len(self.splits["val"]) else []

    def predict_dataloader(self) -> StayLoader | list[StayLoader]:
        """The test split."""
        return self.test_dataloader()

    def test_dataloader(self) -> StayLoader | list[StayLoader]:
        """Empty where ``test_fraction`` is 0 and no set or fold is named."""
        return self.loader("test") if len(self.splits["test"]) else []
