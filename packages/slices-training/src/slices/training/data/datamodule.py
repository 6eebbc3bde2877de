"""Batches of stays for Lightning."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as L
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slices.encoders import Normalizer
from slices.encoders.registry import unknown
from slices.training.data.columns import Columns, match_columns
from slices.training.data.config import DataConfig
from slices.training.data.identity import refuse_other
from slices.training.data.labels import label_subset
from slices.training.data.loader import StayLoader, StaySampler, rank_and_world_size
from slices.training.data.prepare import open_dataset, prepare_dataset
from slices.training.data.resident import Resident
from slices.training.data.samples import Samples, labelled, last_hours, unlabelled
from slices.training.data.schema import TaskInfo
from slices.training.data.splits import digest_of, refuse_empty, split_stays, uniform_hash
from slices.training.data.statistics import fit_normalizer, refuse_unseen
from slices.training.data.store import Manifest
from slices.training.data.together import Labels, together
from slices.training.data.views import Array, Index, View
from slices.training.memory import physical_memory
from slices.training.seeding import seed_of

log = logging.getLogger(__name__)
AT_ONCE = 512  # samples cut together, where there is no training
A_CELL = 20  # bytes of a cell of the grid while it is cut


class DatasetInfo(NamedTuple):
    """What can be known of a dataset without preparing it."""

    variables: tuple[str, ...]
    units: tuple[str, ...]
    static_columns: tuple[int, ...]
    tasks: dict[str, TaskInfo]


def dataset_info(config: DataConfig) -> DatasetInfo:
    """Variables and tasks: from the manifest where the dataset is prepared, else from its source."""
    directory, source = Path(config.dataset_dir), config.build_source()
    prepared = None
    if directory.exists():
        prepared = Manifest.read(directory)
        refuse_other(source, prepared, directory)
    columns = match_columns(prepared.variables if prepared else source.variables)
    tasks = prepared.tasks if prepared else source.task_infos()
    return DatasetInfo(columns.names, columns.units, columns.static, tasks)


class StayDataModule(L.LightningDataModule):
    """Stays of one dataset as batches, split by patient and normalised.

    Args:
        config: the data section of a config.
        task: name of the task whose labels the batches carry; what has no label is then left out.
        per_step: for a task with one label a step: batches carry all labels of a stay, (B, T), for an encoder
            that cannot see the future. Without it each prediction time is a sample of its own, whose input
            ends there. By default as the task is.
        seed: of the order in which training goes through the samples.
        also: names of further tasks, whose labels batches carry as ``label/<name>`` and
            ``label_mask/<name>``; a sample then has a label of one task at least. ``label_fraction`` goes by
            the first task's.

    After ``setup``: ``store``, ``view``, ``variables``, ``units``, ``static_columns``, ``normalizer``,
    ``task``, ``samples`` (what there is to train and predict on) and ``splits`` (which of them each split
    has). The columns are the dataset's own until :meth:`feed` asks for others; the normaliser is fitted on
    the training split's events until it is set to that of a checkpoint.
    """

    def __init__(
        self,
        config: DataConfig,
        *,
        task: str | None = None,
        per_step: bool | None = None,
        seed: int = 0,
        also: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if task is None and config.label_fraction < 1:
            raise ValueError(
                f"data.label_fraction={config.label_fraction} needs a task: there are no labels here"
            )
        self.config = config
        self.task_name = task
        self.per_step = per_step
        self.seed = seed
        self.also = tuple(also)
        self.other_labels: dict[str, Labels] = {}
        self.task: TaskInfo | None = None
        self.labels_a_step = False  # do batches carry one label a step, (B, T), and not one a sample?
        self._resident: Resident | None = None
        self._on_device: Resident | None = None  # the same on a GPU, for batches to train on
        self._ready = False

    def prepare_data(self) -> None:
        """Prepare the dataset where it is absent."""
        if not Path(self.config.dataset_dir).exists():
            log.info("no dataset at %s yet: preparing it", self.config.dataset_dir)
            prepare_dataset(self.config.build_source(), self.config.dataset_dir)

    def setup(self, stage: str | None = None) -> None:
        """Open the dataset, split it, match variables, lay out samples, fit the normaliser. Runs once."""
        if self._ready:
            return
        config = self.config
        self.store = open_dataset(config.build_source(), config.dataset_dir)
        stays = split_stays(self.store.patient_id, self.store.stays["set"].to_list(), config.splits)
        refuse_empty(stays, config.splits, "stays")
        self._fitted_on = stays["train"]  # with or without a label
        self._take_columns(match_columns(self.store.variables))
        refuse_unseen(self.store, self.view, self._fitted_on)
        self.normalizer = self._fitted_normalizer()
        self.samples = self._take_samples()
        self._refuse_large_batches()
        self.splits = {split: self._of_stays(chosen) for split, chosen in stays.items()}
        if self.task is not None:
            refuse_empty(self.splits, config.splits, f"samples with a label for {self.task.name!r}")
        self.training_rows = self.splits["train"]  # also those whose labels are then left out
        if config.label_fraction < 1:  # validation labels choose the epoch: they cost as much as others
            self.splits |= {split: self._labelled_share(split) for split in ("train", "val")}
        self._ready = True

    def _take_samples(self) -> Samples:
        window = self.config.window
        if self.task_name is None:
            return unlabelled(self.store, self.view, window)
        tasks = self.store.manifest.tasks
        for name in (self.task_name, *self.also):
            if name not in tasks:
                raise ValueError(unknown("task", name, tasks))
        self.task = tasks[self.task_name]
        self.labels_a_step = self.task.per_step if self.per_step is None else self.per_step
        of_tasks = {
            name: labelled(self.store, tasks[name], self.view, window, per_step=self.labels_a_step)
            for name in (self.task_name, *self.also)
        }
        if not self.also:
            return of_tasks[self.task_name]
        samples, self.other_labels = together(of_tasks)
        return samples

    def _refuse_large_batches(self) -> None:
        """Raise ``ValueError`` for a grid of which this machine could not hold one batch."""
        config, steps, columns = self.config, self.view.n_steps or 0, len(self.variables)
        stays = min(len(self.samples.stay), config.batch_size)
        if (needed := stays * steps * columns * A_CELL) > physical_memory():
            raise ValueError(
                f"{stays} stays x {steps:,} bins x {columns} variables take {needed / 1e9:,.0f} GB, which "
                f"is more than there is: make bins wider (data.resolution={config.resolution:g} hours), or "
                f"data.horizon={config.horizon:g} (hours), or data.window, shorter"
            )

    def _of_stays(self, stays: Index) -> Index:
        chosen = np.zeros(len(self.store), dtype=bool)
        chosen[stays] = True
        return np.flatnonzero(chosen[self.samples.stay])

    def _labelled_share(self, split: str) -> Index:
        rows, config = self.splits[split], self.config
        assert self.task is not None
        if not len(rows):
            return rows
        stay_id, (label, label_mask) = self.stay_ids(rows), self._labels(rows)
        chosen = label_subset(stay_id, label, label_mask, self.task, config.label_fraction, config.label_seed)
        return rows[chosen]

    def _take_columns(self, columns: Columns) -> None:
        config = self.config
        self.variables, self.units, self.static_columns = columns.names, columns.units, columns.static
        self.absent_columns = columns.absent
        self.view = View(
            column=columns.of_variable,
            static=columns.is_static,
            summed=columns.is_summed,
            resolution=config.resolution,
            horizon=config.horizon,
            span=config.window.length if config.window else None,
            max_steps=config.max_steps,
            aggregate=config.aggregate,
        )

    def feed(self, variables: Sequence[str], units: Sequence[str] = (), *, adapt: bool = False) -> None:
        """From here on, give the columns that an encoder expects: matched by name, in its order.

        Raises ``ValueError`` where the dataset has other variables (unless ``adapt``) or other units.
        """
        columns = match_columns(self.store.variables, variables, units, adapt=adapt)
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
                f"the normalizer has {width} variables, the data {len(self.variables)}: feed it first"
            )
        self._normalizer = normalizer
        self._resident = self._on_device = None  # they were cut with another

    def _fitted_normalizer(self) -> Normalizer:
        return fit_normalizer(self.store, self.view, self._fitted_on)

    @property
    def sizes(self) -> dict[str, int]:
        """Samples in each split: stays, but for windows and several prediction times."""
        return {name: len(rows) for name, rows in self.splits.items()}

    def stay_ids(self, rows: Index) -> Index:
        """The stay id of each of these samples."""
        return self.store.stay_id[self.samples.stay[rows]]

    def split_ids(self, split: str) -> Index:
        """The stay id of each sample of a split."""
        return self.stay_ids(self.splits[split])

    def split_labels(
        self, split: str, task: str | None = None
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Labels of a split and their mask, as in ``Samples``, e.g. for class weights.

        Of the first task, or of one of ``also``.
        """
        rows = self.splits[split]
        if task is None or task == self.task_name:
            return self._labels(rows)
        label, mask = self.other_labels[task]
        return label[rows], mask[rows]

    def _labels(self, rows: Index) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        label, mask = self.samples.label, self.samples.label_mask
        if label is None or mask is None:
            raise ValueError("there are no labels: the data module was made without a task")
        return label[rows], mask[rows]

    def fingerprint(self) -> dict[str, Any]:
        """Which data and which split this is, as values that JSON gives back equal.

        Sets of stays are sorted, since neither their order nor naming one twice makes another split.
        """
        config = self.config
        named = ("train_sets", "val_sets", "test_sets")
        sets = {name: sorted(set(getattr(config.splits, name))) for name in named}
        return {
            "source": self.store.manifest.source["name"],
            "dataset": self.store.manifest.fingerprint,
            "patients": digest_of(self.store.patient_id),  # the same where tasks were added
            "splits": dataclasses.asdict(config.splits) | sets,
            "resolution": config.resolution,
            "horizon": config.horizon,
            "window": None if config.window is None else dataclasses.asdict(config.window),
            "max_steps": config.max_steps,
            "aggregate": config.aggregate,
            "summed": sorted(self.variables[column] for column in np.flatnonzero(self.view.summed)),
        }

    def cuts(self, rows: Index, *, normalize: bool = True) -> Iterator[dict[str, Tensor]]:
        """These samples in order, up to ``AT_ONCE`` in a batch, without a loader's shuffling or processes."""
        for first in range(0, len(rows), AT_ONCE):
            yield self.cut(rows[first : first + AT_ONCE], normalize=normalize)

    def cut(self, rows: Index, *, epoch: int | None = None, normalize: bool = True) -> dict[str, Tensor]:
        """One batch of these samples; ``normalize=False`` keeps raw units.

        With ``epoch`` it is one to train on: windows that are to begin anywhere (``window.random``) do so,
        elsewhere in each epoch, and it is on the GPU already where the samples are kept there.
        """
        samples = self.samples.take(rows)
        kept = self._resident if epoch is None else self._on_device or self._resident
        with torch.no_grad():
            if normalize and kept is not None and kept.holds(rows):
                batch = kept.cut(rows)
            else:
                moved = np.float32(0) if epoch is None else self._moved(rows, epoch)
                until, start = samples.until + moved, samples.start + moved
                normalizer = self.normalizer if normalize else None
                batch = self.view.cut(self.store, samples.stay, until, start, normalizer)
        if samples.label is not None and samples.label_mask is not None:
            batch["label"] = torch.from_numpy(samples.label)
            batch["label_mask"] = torch.from_numpy(samples.label_mask)
            if not self.labels_a_step:
                batch["prediction_time"] = torch.from_numpy(samples.until)
        for name in self.also:
            for key, values in self.other_labels[name]._asdict().items():
                batch[f"{key}/{name}"] = torch.from_numpy(values[rows])
        return batch

    def _moved(self, rows: Index, epoch: int) -> Array:
        """Hours by which each window begins later or earlier: up to a stride, within the stay, on an edge."""
        window, samples = self.config.window, self.samples.take(rows)
        if window is None or not window.random or samples.label is not None:
            return np.zeros(len(rows), dtype=np.float32)
        end = np.minimum(self.store.length_hours[samples.stay], self.config.horizon)
        later = window.step * (2 * uniform_hash(rows, seed_of(self.seed, "window", epoch)) - 1)
        start = self.view.on_edge((samples.start + later).clip(0))
        return start.clip(max=last_hours(end, self.view, window)) - samples.start

    def loader(self, split: str, *, shuffle: bool = False) -> StayLoader:
        """Batches of one split."""
        rank, world_size = rank_and_world_size()
        rows = self.splits[split]
        sampler = StaySampler(
            rows,
            self.config.batch_size,
            shuffle=shuffle,
            even=not shuffle and self.task is None,
            sizes=self._sizes(rows) if self.config.bucket_by_length else None,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
        )
        if shuffle:
            window = None if self.config.window is None else dataclasses.asdict(self.config.window)
            return StayLoader(lambda chosen, epoch: self.cut(chosen, epoch=epoch), sampler, window=window)
        return StayLoader(lambda chosen, epoch: self.cut(chosen), sampler)

    def _sizes(self, rows: Index) -> Index:
        """About how long each sample is: the events of its stay."""
        stay = self.samples.stay[rows]
        return np.asarray(self.store.offsets[stay + 1] - self.store.offsets[stay])

    def _keep_cut(self) -> None:
        """Training and validation samples, which every epoch reads, are cut once if they fit into memory.

        Not where several processes train: each would keep them all, and the file they share is one copy.
        """
        config = self.config
        changing = config.window is not None and config.window.random and self.task is None
        alone = rank_and_world_size()[1] == 1
        unwanted = config.resident_gb == 0 or config.resolution == "observations"
        if self._resident is not None or changing or not alone or unwanted:
            return
        rows = np.concatenate([self.splits["train"], self.splits["val"]])
        most = min(config.resident_gb * 1e9, physical_memory() / 4)
        with torch.no_grad():
            self._resident = Resident.of(
                self.view, self.store, self.samples, rows, self.normalizer, most_bytes=most
            )
        if self._resident is not None:
            self._on_device = self._moved_to_gpu(self._resident)
            where = "" if self._on_device is None else ", on the GPU too"
            log.info(
                "%s samples are kept cut: %.2g GB%s", f"{len(rows):,}", self._resident.nbytes / 1e9, where
            )
        else:
            log.info(
                "%s samples take more than %.2g GB (data.resident_gb, at most a quarter of the memory): "
                "each epoch cuts them anew, at about half the rate",
                f"{len(rows):,}",
                most / 1e9,
            )

    def _moved_to_gpu(self, kept: Resident) -> Resident | None:
        """A copy where training is going to be, if that is a GPU with four times as much memory to spare."""
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        if device.type != "cuda" or kept.nbytes > torch.cuda.mem_get_info(device)[0] / 4:
            return None
        return kept.to(device)

    def train_dataloader(self) -> StayLoader:
        self._keep_cut()
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
