"""``BenchmarkConfig``: the rows of a league, and their settings."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig

from slices.encoders.registry import make_config
from slices.training.agreement import with_task
from slices.training.benchmark.cells import Cell, Unit, units
from slices.training.benchmark.checks import check
from slices.training.benchmark.overrides import Section, overrides_for, spelt
from slices.training.benchmark.rows import NONE
from slices.training.compose import composed
from slices.training.config import TaskConfig, refuse_unknown
from slices.training.data.config import DataConfig

MEMBERS = "members="  # the one setting that is the benchmark's own


@dataclass(kw_only=True)
class BaselineOptions:
    """How a baseline is fitted.

    ``also`` names further tasks, of whose labels on the same training stays the baseline learns too (see
    ``fit_stacked``), as ``task.also`` does for a network. ``tune``: settings of the trees by
    cross-validation inside the training stays, instead of those that were chosen once.
    """

    also: tuple[str, ...] = ()
    tune: bool = False


@dataclass(kw_only=True)
class BenchmarkConfig:
    """Everything that ``configs/benchmark.yaml`` says.

    ``draws`` has, for each of ``label_fractions``, how many draws of that share of the training labels
    are made; all rows get the same ones. ``skip`` leaves out pairs of encoder and objective
    (``gru+jepa``), or one way to adapt them (``gru+jepa+probe``, ``gru+jepa+probe+0.1``); a blend is made
    at the fractions that all of its members have. ``variants`` are encoders, objectives, ways to adapt
    and baselines under names of one's own, so that a table can hold one with several settings:
    ``{mae_short: mae}``. ``blends`` are rows that are the mean of others, and of all seeds of each:
    ``{mix: [gru+mae+finetune, lightgbm]}``. ``transductive`` names objectives whose pretraining also
    reads the inputs of the test stays, never a label, and is done once for all folds. ``n_splits`` random
    splits are made with ``data.splits.seed`` and those after it. ``share`` does a part of the work,
    ``2/8`` the second of eight, and no table. ``adaptations`` are options of the group ``adaptation``;
    without pretraining there are ``probe`` and ``finetune`` alone. ``baseline`` has the
    ``BaselineOptions`` of baselines, under ``all`` or a name. ``pretrain`` and ``finetune`` hold what
    differs from the two apps' configs (also further tasks, ``task.also``; ``members: 8`` fine-tunes each
    encoder eight times, with seeds of their own, for a row that is the mean), under ``all``, an encoder,
    an objective (``none``: from scratch), a variant, a way to adapt, a fraction of labels, or several of
    them (``gru+none+0.05``); those of variants win, then those under more names, then the later ones.
    """

    data: DataConfig
    task: TaskConfig
    folder: str = "outputs/benchmark"
    encoders: tuple[str, ...] = ("flowsheet",)
    objectives: tuple[str, ...] = (NONE, "mae")
    adaptations: tuple[str, ...] = ("probe", "finetune")
    baselines: tuple[str, ...] = ()
    label_fractions: tuple[float, ...] = (1.0,)
    draws: tuple[int, ...] = (1,)
    seeds: tuple[int, ...] = (0,)
    skip: tuple[str, ...] = ()
    transductive: tuple[str, ...] = ()
    n_splits: int = 1
    share: str | None = None
    blends: dict[str, tuple[str, ...]] = field(default_factory=dict)
    variants: dict[str, str] = field(default_factory=dict)
    baseline: Section = field(default_factory=dict)
    pretrain: Section = field(default_factory=dict)
    finetune: Section = field(default_factory=dict)
    jobs: int = 1

    def __post_init__(self) -> None:
        self.task = with_task(dataclasses.replace(self.task, per_step=bool(self.task.per_step)), self.data)
        self.skip = tuple(map(spelt, self.skip))
        check(self)

    @classmethod
    def parse(cls, config: Mapping[str, Any] | DictConfig) -> BenchmarkConfig:
        """Raises ``ValueError`` or ``TypeError`` that names the key, the value and the remedy."""
        given = composed(config, "benchmark")
        refuse_unknown(given, cls, "benchmark")
        for name in ("baseline", "pretrain", "finetune"):
            section = given.get(name) or {}
            given[name] = {spelt(key): settings or {} for key, settings in section.items()}
        return make_config(cls, given, "benchmark")

    def registered(self, name: str) -> str:
        """What a variant is one of; any other name as it is."""
        return self.variants.get(name, name)

    def baseline_options(self, name: str) -> BaselineOptions:
        """How the baseline of that name is fitted."""
        return make_config(
            BaselineOptions, self.baseline.get("all", {}) | self.baseline.get(name, {}), "baseline"
        )

    def pretraining(self, unit: Unit) -> list[str]:
        """What a unit's encoder is pretrained with, as overrides of the app's config."""
        groups = [f"encoder={self.registered(unit.encoder)}", f"ssl={self.registered(unit.objective)}"]
        return groups + self._overrides(self.pretrain, unit)

    def adapting(self, cell: Cell) -> list[str]:
        """The same of what a cell's encoder is adapted with.

        The encoder is that of pretraining, also from scratch; fine-tuning may change its dropout and pooling.
        """
        unit = cell.unit
        encoder, adaptation = self.registered(unit.encoder), self.registered(cell.adaptation)
        own = [word for word in self._finetuning(cell) if not word.startswith(MEMBERS)]
        its = [word for word in self._overrides(self.pretrain, unit) if word.startswith("encoder.")]
        if unit.objective in self.transductive:  # on purpose
            own.append("training.allow_other_split=true")
        return [f"encoder={encoder}", f"adaptation={adaptation}", *its, *own]

    def members(self, cell: Cell) -> int:
        """How many times its encoder is fine-tuned, for the mean of their predictions."""
        given = [word.removeprefix(MEMBERS) for word in self._finetuning(cell) if word.startswith(MEMBERS)]
        return int(given[0]) if given else 1

    def _finetuning(self, cell: Cell) -> list[str]:
        return self._overrides(self.finetune, cell.unit, cell.adaptation, f"{cell.fraction:g}")

    def is_probe(self, adaptation: str) -> bool:
        """Is the encoder left as it is, and a linear head solved?"""
        return self.registered(adaptation) == "probe"

    def _overrides(self, section: Section, unit: Unit, *more: str) -> list[str]:
        names = (unit.encoder, unit.objective, *more)
        return overrides_for(section, {*names, *map(self.registered, names)}, self.variants)

    @property
    def folds(self) -> range:
        """The folds that are run, or the random splits, or the one split by sets."""
        return range(self.data.splits.n_folds or self.n_splits)

    def data_of(self, unit: Unit) -> DataConfig:
        """The data section, in the unit's fold."""
        splits = self.data.splits
        if splits.n_folds:
            return dataclasses.replace(self.data, splits=dataclasses.replace(splits, fold=unit.fold))
        own = dataclasses.replace(splits, seed=splits.seed + unit.fold)
        return dataclasses.replace(self.data, splits=own)

    def pretraining_unit(self, unit: Unit) -> Unit:
        """The unit whose encoder it takes: transductive, one is for all folds and splits."""
        return dataclasses.replace(unit, fold=0) if unit.objective in self.transductive else unit

    def pretraining_data(self, unit: Unit) -> DataConfig:
        """The same for pretraining; where that is transductive, the test stays train as well."""
        data = self.data_of(unit)
        if unit.objective not in self.transductive:
            return data
        sets = (*data.splits.train_sets, *data.splits.test_sets) if data.splits.train_sets else ()
        splits = dataclasses.replace(data.splits, train_sets=sets, val_sets=(), test_sets=())
        splits = dataclasses.replace(splits, n_folds=None, fold=0, val_fraction=0.0, test_fraction=0.0)
        return dataclasses.replace(data, splits=splits)

    def work(self) -> list[Unit]:
        """The units of the share, or all."""
        todo = list(units(self))
        if self.share is None:
            return todo
        part, of = map(int, self.share.split("/"))
        together: dict[Unit, list[Unit]] = {}  # one share has all folds of an encoder that is pretrained once
        for unit in todo:
            together.setdefault(self.pretraining_unit(unit), []).append(unit)
        groups = list(together.values())
        random.Random(0).shuffle(groups)  # or a share would be of one objective alone
        return [unit for group in groups[part - 1 :: of] for unit in group]
