"""What contradicts itself in a ``BenchmarkConfig``, found before any work is done.

Every check raises ``ValueError`` that names the key, the value and the remedy.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

from slices.encoders import ENCODER_REGISTRY
from slices.encoders.registry import unknown
from slices.heads import TASK_HEAD_REGISTRY
from slices.ssl.factory import SSL_REGISTRY
from slices.training.benchmark.blends import check_blends
from slices.training.benchmark.cells import FROM_SCRATCH, cells, kinds, ways
from slices.training.benchmark.rows import BASELINE, NONE, short_name
from slices.training.compose import options
from slices.training.evaluation.baselines import BASELINES
from slices.training.ranges import require_at_least_one

if TYPE_CHECKING:
    from slices.training.benchmark.config import BenchmarkConfig

log = logging.getLogger(__name__)
SHARED_OF_TASK = {"task_name", "task_type", "n_classes", "per_step"}  # heads may differ
VALIDATING = {"patience", "average_best"}
SEEDS_APART = 1000  # of the members of one row


def check(config: BenchmarkConfig) -> None:
    """Raises ``ValueError`` for the first thing that cannot be."""
    _check_variants(config)
    _check_lists(config)
    require_at_least_one(config, "jobs", "n_splits")
    _check_share(config.share)
    _check_task(config)
    _check_splits(config)
    _check_settings(config)
    _check_skipped(config)
    _check_rows(config)
    rows = [(unit, way) for unit in kinds(config) for way in ways(config, unit)]
    names = [short_name((1.0, unit.encoder, unit.objective, way)) for unit, way in rows]
    check_blends(config.blends, names, taken=(*config.encoders, *config.variants))


def _check_task(config: BenchmarkConfig) -> None:
    task = config.task
    if task.per_step:
        raise ValueError(
            f"task={task.task_name} has one label a step: the benchmark compares one prediction a "
            "stay; choose such a task, or adapt encoders to this one with the finetune app"
        )
    if task.also:
        raise ValueError(
            f"task.also={list(task.also)}: the benchmark compares one task at a time; what is "
            "learnt beside it belongs under finetune, as in finetune.finetune.task.also"
        )
    if task.task_type == "survival":
        raise ValueError(
            f"task={task.task_name} is a survival task, which the benchmark cannot judge yet: use "
            "finetune, with the same task.interval_ends for all models, and compare them with evaluate"
        )
    probing = any(map(config.is_probe, config.adaptations))
    if probing and TASK_HEAD_REGISTRY.find(task.head_type).pools_steps:
        raise ValueError(
            f"task.head_type={task.head_type} takes the steps' embeddings, a probe that of a stay: "
            "leave probe out of adaptations, or use task.head_type=linear"
        )


def _check_splits(config: BenchmarkConfig) -> None:
    splits = config.data.splits
    if not (splits.test_sets or splits.n_folds or splits.test_fraction):
        raise ValueError("data.splits leaves nobody to test on: give n_folds, test_sets or test_fraction")
    if config.n_splits > 1 and (splits.test_sets or splits.n_folds):
        raise ValueError(
            f"n_splits={config.n_splits}: only random splits can be repeated; set data.splits.n_folds=null "
            "and data.splits.test_sets=[], or leave n_splits out"
        )
    if len(config.draws) != len(config.label_fractions):
        raise ValueError(
            f"draws has {len(config.draws)} numbers, label_fractions {len(config.label_fractions)}: "
            "give one number of draws for each fraction"
        )
    if config.data.label_fraction < 1:
        raise ValueError("data.label_fraction belongs into label_fractions")


def _check_rows(config: BenchmarkConfig) -> None:
    """Every encoder and objective is for something, and so is every fraction."""
    found = {unit: {cell.fraction for cell in cells(config, unit)} for unit in kinds(config)}
    for unit, fractions in found.items():
        if fractions:
            continue
        from_scratch = [way for way in config.adaptations if config.registered(way) in FROM_SCRATCH]
        remedy = (
            f"without pretraining only {' and '.join(FROM_SCRATCH)} can be had: add one"
            if unit.objective == NONE and not from_scratch
            else "skip leaves it none: leave out less"
        )
        raise ValueError(
            f"adaptations={list(config.adaptations)}: no row is of encoder {unit.encoder} and "
            f"objective {unit.objective}; {remedy}, or skip {unit.encoder}+{unit.objective}"
        )
    for fraction in config.label_fractions:
        if not any(fraction in fractions for fractions in found.values()):
            raise ValueError(
                f"label_fractions: skip leaves no row at {fraction:g}: take it out, or skip less"
            )


def _check_lists(config: BenchmarkConfig) -> None:
    for name in ("encoders", "objectives", "adaptations", "label_fractions", "draws", "seeds"):
        if not getattr(config, name):
            raise ValueError(f"{name} is empty: give one or more")
    for name in ("encoders", "objectives", "adaptations", "baselines", "label_fractions", "seeds"):
        given = getattr(config, name)
        if twice := sorted({str(value) for value in given if given.count(value) > 1}):
            raise ValueError(f"{name} names {', '.join(twice)} twice: once is enough")
    for encoder in config.encoders:
        _check_listed(config, "encoder", encoder, ENCODER_REGISTRY.names())
    for objective in config.objectives:
        _check_listed(config, "SSL objective", objective, [NONE, *SSL_REGISTRY.names()])
    for adaptation in config.adaptations:
        _check_listed(config, "way to adapt", adaptation, options("adaptation"))
    for baseline in config.baselines:
        _check_listed(config, "baseline", baseline, list(BASELINES))
    for name in config.transductive:
        if name not in config.objectives or name == NONE:
            there = [objective for objective in config.objectives if objective != NONE]
            raise ValueError(f"transductive: {unknown('objective', name, there)}")
    if wrong := [fraction for fraction in config.label_fractions if not 0 < fraction <= 1]:
        raise ValueError(f"label_fractions: {wrong[0]:g} is not above 0, up to 1")
    if min(config.draws) < 1:
        raise ValueError(f"draws: {min(config.draws)} is not 1 or more")
    if len({seed % SEEDS_APART for seed in config.seeds}) < len(config.seeds):
        raise ValueError(
            f"seeds={list(config.seeds)}: two that differ by a multiple of {SEEDS_APART} would share "
            "members; take others"
        )


def _check_listed(config: BenchmarkConfig, what: str, name: str, known: list[str]) -> None:
    if config.registered(name) not in known:
        raise ValueError(unknown(what, name, [*known, *config.variants]))


def _check_share(share: str | None) -> None:
    if share is None:
        return
    part, _, of = share.partition("/")
    if not (part.isdecimal() and of.isdecimal() and 1 <= int(part) <= int(of)):
        raise ValueError(f"share={share}: allowed is K/N, the K-th of N parts, such as 2/8; or null")


def _check_variants(config: BenchmarkConfig) -> None:
    known = [*ENCODER_REGISTRY.names(), *SSL_REGISTRY.names(), *options("adaptation"), *BASELINES]
    taken = {*known, "all", NONE, BASELINE}
    for name, registered in config.variants.items():
        if name in taken or not re.fullmatch(r"[A-Za-z]\w*", name):
            raise ValueError(
                f"variants: {name!r} must be a new name, of letters, digits and _: rename it, here and "
                "where it is used"
            )
        if registered not in known:
            what = "encoder, objective, way to adapt or baseline"
            raise ValueError(f"variants.{name}: {unknown(what, registered, known)}")
        if name not in (*config.encoders, *config.objectives, *config.adaptations, *config.baselines):
            raise ValueError(
                f"variants.{name}: no row is of it; add it to encoders, objectives, adaptations or baselines"
            )


def _check_skipped(config: BenchmarkConfig) -> None:
    """What is left out was there to be."""
    pairs = [f"{encoder}+{objective}" for encoder, objective in product(config.encoders, config.objectives)]
    rows = [
        f"{encoder}+{objective}+{way}"
        for encoder, objective, way in product(config.encoders, config.objectives, config.adaptations)
        if objective != NONE or config.registered(way) in FROM_SCRATCH
    ]
    for key in config.skip:
        row, _, last = key.rpartition("+")
        if row in rows and is_fraction(last):
            _warn_of_idle("skip", key, config.label_fractions)
        elif key not in (*pairs, *rows):
            allowed = f"{unknown('row', key, [*pairs, *rows])}, and of the last each at a fraction"
            raise ValueError(f"skip: {allowed}")


def _check_settings(config: BenchmarkConfig) -> None:
    """Settings that would be for nobody, or that the benchmark sets itself, are refused."""
    for name in config.baseline:
        if name not in ("all", *config.baselines):
            raise ValueError(f"baseline: {unknown('key', name, ['all', *config.baselines])}")
    for name in config.baselines:
        config.baseline_options(name)
    encoders, objectives = ENCODER_REGISTRY.names(), [NONE, *SSL_REGISTRY.names()]
    fractions = [f"{fraction:g}" for fraction in config.label_fractions]
    for name, more in (("pretrain", []), ("finetune", [*options("adaptation"), *fractions])):
        known = [*encoders, *objectives, *more]
        variants = [name for name, registered in config.variants.items() if registered in known]
        for key, settings in getattr(config, name).items():
            for part in () if key == "all" else key.split("+"):
                if name == "finetune" and is_fraction(part):
                    _warn_of_idle("finetune", key, config.label_fractions)
                elif part not in (*known, *variants):
                    raise ValueError(f"{name}: {unknown('key', part, ['all', *known, *variants])}")
            _check_section(f"{name}.{key}", settings)
            if "encoder" in settings and any(map(is_fraction, key.split("+"))):
                raise ValueError(
                    f"{name}.{key}: an encoder is the same for all fractions of labels; leave it out"
                )


def _check_section(where: str, settings: dict[str, object]) -> None:
    training, task = (settings.get(name) or {} for name in ("training", "task"))
    assert isinstance(training, dict) and isinstance(task, dict)
    taken = {"data", "seed"} & set(settings) | {f"task.{option}" for option in SHARED_OF_TASK & set(task)}
    if taken:
        raise ValueError(f"{where}: {', '.join(sorted(taken))} belong to the benchmark itself")
    if "allow_other_split" in training:
        raise ValueError(
            f"{where}.training.allow_other_split: leave it out, and name in transductive "
            "the objectives whose pretraining may read the test stays"
        )
    if idle := sorted(VALIDATING & set(training)):
        raise ValueError(
            f"{where}.training: {', '.join(idle)} would do nothing, since the benchmark "
            "trains for max_epochs without validation stays; leave it out"
        )
    members = settings.get("members", 1)
    if type(members) is not int or members < 1:
        raise ValueError(f"{where}.members={members!r} is not a whole number, 1 or more")


def _warn_of_idle(where: str, key: str, fractions: Sequence[float]) -> None:
    """An experiment of which fewer fractions are asked for keeps the settings of the others."""
    for part in filter(is_fraction, key.split("+")):
        if part not in {f"{fraction:g}" for fraction in fractions}:
            log.warning("%s %s: nothing, since label_fractions has no %s", where, key, part)


def is_fraction(part: str) -> bool:
    """
    >>> is_fraction("0.05"), is_fraction("gru"), is_fraction("2")
    (True, False, False)
    """
    try:
        return 0 < float(part) <= 1
    except ValueError:
        return False
