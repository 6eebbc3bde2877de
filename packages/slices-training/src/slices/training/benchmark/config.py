"""``BenchmarkConfig``: the rows of a league, their settings, and what contradicts itself."""

from __future__ import annotations

import dataclasses
import logging
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from omegaconf import DictConfig

from slices.encoders import ENCODER_REGISTRY
from slices.encoders.registry import make_config, unknown
from slices.heads import TASK_HEAD_REGISTRY
from slices.ssl.factory import SSL_REGISTRY
from slices.training.agreement import with_task
from slices.training.benchmark.blends import check_blends
from slices.training.benchmark.cells import FROM_SCRATCH, Cell, Unit, cells, kinds, units
from slices.training.benchmark.overrides import Section, overrides_for, spelt
from slices.training.benchmark.rows import BASELINE, NONE, short_name
from slices.training.compose import composed, options
from slices.training.config import TaskConfig, refuse_unknown
from slices.training.data.config import DataConfig
from slices.training.evaluation.baselines import BASELINES
from slices.training.ranges import require_at_least_one

SHARED_OF_TASK = {"task_name", "task_type", "n_classes", "per_step"}  # heads may differ
log = logging.getLogger(__name__)
MEMBERS = "members="
VALIDATING = {"patience", "average_best"}


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
        self._check_variants()
        self._check_lists()
        require_at_least_one(self, "jobs", "n_splits")
        self._check_share()
        self.task = with_task(dataclasses.replace(self.task, per_step=bool(self.task.per_step)), self.data)
        if self.task.per_step:
            raise ValueError(
                f"task={self.task.task_name} has one label a step: the benchmark compares one prediction a "
                "stay; choose such a task, or adapt encoders to this one with the finetune app"
            )
        if self.task.also:
            raise ValueError(
                f"task.also={list(self.task.also)}: the benchmark compares one task at a time; what is "
                "learnt beside it belongs under finetune, as in finetune.finetune.task.also"
            )
        if self.task.task_type == "survival":
            raise ValueError(
                f"task={self.task.task_name} is a survival task, which the benchmark cannot judge yet: use "
                "finetune, with the same task.interval_ends for all models, and compare them with evaluate"
            )
        splits = self.data.splits
        if not (splits.test_sets or splits.n_folds or splits.test_fraction):
            raise ValueError("data.splits leaves nobody to test on: give n_folds, test_sets or test_fraction")
        if self.n_splits > 1 and (splits.test_sets or splits.n_folds):
            raise ValueError(
                f"n_splits={self.n_splits}: only random splits can be repeated; set data.splits.n_folds=null "
                "and data.splits.test_sets=[], or leave n_splits out"
            )
        if len(self.draws) != len(self.label_fractions):
            raise ValueError(
                f"draws has {len(self.draws)} numbers, label_fractions {len(self.label_fractions)}: "
                "give one number of draws for each fraction"
            )
        if self.data.label_fraction < 1:
            raise ValueError("data.label_fraction belongs into label_fractions")
        self._check_settings()
        self._check_rows()
        names = [short_name(cell.row) for unit in kinds(self) for cell in cells(self, unit)]
        check_blends(self.blends, list(dict.fromkeys(names)), taken=(*self.encoders, *self.variants))

    def _check_rows(self) -> None:
        """Every encoder and objective is for something, and probes are linear."""
        for unit in kinds(self):
            if not any(cells(self, unit)):
                remedy = (
                    f"without pretraining only {' and '.join(FROM_SCRATCH)} can be had: add one"
                    if unit.objective == NONE
                    else "skip leaves it none: leave out less"
                )
                raise ValueError(
                    f"adaptations={list(self.adaptations)}: no row is of encoder {unit.encoder} and "
                    f"objective {unit.objective}; {remedy}, or skip {unit.encoder}+{unit.objective}"
                )
        if (
            any(map(self.is_probe, self.adaptations))
            and TASK_HEAD_REGISTRY.find(self.task.head_type).pools_steps
        ):
            raise ValueError(
                f"task.head_type={self.task.head_type} takes the steps' embeddings, a probe that of a stay: "
                "leave probe out of adaptations, or use task.head_type=linear"
            )

    def _check_lists(self) -> None:
        for name in ("encoders", "objectives", "adaptations", "label_fractions", "draws", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty: give one or more")
        for name in ("encoders", "objectives", "adaptations", "baselines", "label_fractions", "seeds"):
            given = getattr(self, name)
            if twice := sorted({str(value) for value in given if given.count(value) > 1}):
                raise ValueError(f"{name} names {', '.join(twice)} twice: once is enough")
        for encoder in self.encoders:
            self._check_listed("encoder", encoder, ENCODER_REGISTRY.names())
        for objective in self.objectives:
            self._check_listed("SSL objective", objective, [NONE, *SSL_REGISTRY.names()])
        for adaptation in self.adaptations:
            self._check_listed("way to adapt", adaptation, options("adaptation"))
        for baseline in self.baselines:
            self._check_listed("baseline", baseline, list(BASELINES))
        pairs = [f"{encoder}+{objective}" for encoder, objective in product(self.encoders, self.objectives)]
        rows = [f"{pair}+{adaptation}" for pair, adaptation in product(pairs, self.adaptations)]
        self.skip = tuple(map(spelt, self.skip))
        for row in self.skip:
            name, _, last = row.rpartition("+")
            if row not in (*pairs, *rows) and not (name in rows and _is_fraction(last)):
                raise ValueError(f"skip: {unknown('row', row, [*pairs, *rows])}")
        for name in self.transductive:
            if name not in self.objectives or name == NONE:
                there = [objective for objective in self.objectives if objective != NONE]
                raise ValueError(f"transductive: {unknown('objective', name, there)}")
        if wrong := [fraction for fraction in self.label_fractions if not 0 < fraction <= 1]:
            raise ValueError(f"label_fractions: {wrong[0]:g} is not above 0, up to 1")
        if min(self.draws) < 1:
            raise ValueError(f"draws: {min(self.draws)} is not 1 or more")

    def _check_listed(self, what: str, name: str, known: list[str]) -> None:
        if self.registered(name) not in known:
            raise ValueError(unknown(what, name, [*known, *self.variants]))

    def _check_share(self) -> None:
        if self.share is None:
            return
        part, _, of = self.share.partition("/")
        if not (part.isdecimal() and of.isdecimal() and 1 <= int(part) <= int(of)):
            raise ValueError(f"share={self.share}: allowed is K/N, the K-th of N parts, such as 2/8; or null")

    def _check_variants(self) -> None:
        known = [*ENCODER_REGISTRY.names(), *SSL_REGISTRY.names(), *options("adaptation"), *BASELINES]
        taken = {*known, "all", NONE, BASELINE}
        for name, registered in self.variants.items():
            if name in taken or not re.fullmatch(r"[A-Za-z]\w*", name):
                raise ValueError(
                    f"variants: {name!r} must be a new name, of letters, digits and _: rename it, here and "
                    "where it is used"
                )
            if registered not in known:
                raise ValueError(
                    f"variants.{name}: "
                    f"{unknown('encoder, objective, way to adapt or baseline', registered, known)}"
                )
            if name not in (*self.encoders, *self.objectives, *self.adaptations, *self.baselines):
                raise ValueError(
                    f"variants.{name}: no row is of it; add it to encoders, objectives, adaptations or "
                    "baselines"
                )

    def _check_settings(self) -> None:
        """Settings that would be for nobody, or that the benchmark sets itself, are refused."""
        for name in self.baseline:
            if name not in ("all", *self.baselines):
                raise ValueError(f"baseline: {unknown('key', name, ['all', *self.baselines])}")
        for name in self.baselines:
            self.baseline_options(name)
        fractions = [f"{fraction:g}" for fraction in self.label_fractions]
        encoders, objectives = ENCODER_REGISTRY.names(), [NONE, *SSL_REGISTRY.names()]
        self._say_which_fractions_are_not_run(fractions)
        for name, more in (("pretrain", []), ("finetune", [*options("adaptation"), *fractions])):
            known = [*encoders, *objectives, *more]
            allowed = [*known, *(name for name, registered in self.variants.items() if registered in known)]
            section = getattr(self, name)
            for key, settings in section.items():
                for part in () if key == "all" else key.split("+"):
                    if part not in allowed and not (name == "finetune" and _is_fraction(part)):
                        raise ValueError(f"{name}: {unknown('key', part, ['all', *allowed])}")
                taken = {"data", "seed"} & set(settings)
                taken |= {f"task.{option}" for option in SHARED_OF_TASK & set(settings.get("task") or {})}
                if taken:
                    raise ValueError(
                        f"{name}.{key}: {', '.join(sorted(taken))} belong to the benchmark itself"
                    )
                if "allow_other_split" in (settings.get("training") or {}):
                    raise ValueError(
                        f"{name}.{key}.training.allow_other_split: leave it out, and name in transductive "
                        "the objectives whose pretraining may read the test stays"
                    )
                if idle := sorted(VALIDATING & set(settings.get("training") or {})):
                    raise ValueError(
                        f"{name}.{key}.training: {', '.join(idle)} would do nothing, since the benchmark "
                        "trains for max_epochs without validation stays; leave it out"
                    )
                if "encoder" in settings and any(map(_is_fraction, key.split("+"))):
                    raise ValueError(
                        f"{name}.{key}: an encoder is the same for all fractions of labels; leave it out"
                    )

    def _say_which_fractions_are_not_run(self, fractions: list[str]) -> None:
        """An experiment of which fewer fractions are asked for keeps the settings of the others."""
        for key in self.finetune:
            for part in key.split("+"):
                if _is_fraction(part) and part not in fractions:
                    log.info("finetune.%s: nothing, since label_fractions has no %s", key, part)

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
        """How many times its encoder is fine-tuned, for the mean of their predictions.

        Raises:
            ValueError: not a number, 1 or more.
        """
        given = next((w for w in self._finetuning(cell) if w.startswith(MEMBERS)), f"{MEMBERS}1")
        number = given.removeprefix(MEMBERS)
        if not number.isdecimal() or int(number) < 1:
            raise ValueError(f"finetune.{cell.adaptation}.members: {number} is not a number, 1 or more")
        return int(number)

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
        random.Random(0).shuffle(todo)  # or a share would be of one objective alone
        return todo[part - 1 :: of]


def _is_fraction(part: str) -> bool:
    try:
        return 0 < float(part) <= 1
    except ValueError:
        return False
