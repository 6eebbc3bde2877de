"""What a benchmark consists of: one cell a trained and tested model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from slices.training.benchmark.rows import BASELINE, NONE, RowKey

if TYPE_CHECKING:
    from slices.training.benchmark.config import BenchmarkConfig

FROM_SCRATCH = ("probe", "finetune")  # ways to adapt that need nothing pretrained


@dataclass(frozen=True)
class Unit:
    """Cells that share one encoder, pretrained once, or one baseline's features."""

    encoder: str
    objective: str
    seed: int
    fold: int

    @property
    def key(self) -> str:
        """A file name."""
        return f"{self.encoder}-{self.objective}-seed{self.seed}-fold{self.fold}"


@dataclass(frozen=True)
class Cell:
    """One model: trained on a draw of labels, tested on a fold."""

    unit: Unit
    adaptation: str
    fraction: float
    draw: int

    @property
    def key(self) -> str:
        """A file name."""
        return f"{self.unit.key}-{self.adaptation}-labels{self.fraction:g}-draw{self.draw}"

    @property
    def row(self) -> RowKey:
        """The row of the table that averages over draws, seeds and folds."""
        return self.fraction, self.unit.encoder, self.unit.objective, self.adaptation


def kinds(config: BenchmarkConfig) -> Iterator[Unit]:
    """One unit of each kind: units that differ in seed and fold only have the same settings."""
    seeds = {BASELINE: 0}
    return (u for u in units(config) if u.fold == 0 and u.seed == seeds.get(u.objective, config.seeds[0]))


def units(config: BenchmarkConfig) -> Iterator[Unit]:
    """All pretrainings, and all baselines (which have no seed)."""
    for name, fold in product(config.baselines, config.folds):
        yield Unit(name, BASELINE, 0, fold)
    for fold, seed, encoder, objective in product(
        config.folds, config.seeds, config.encoders, config.objectives
    ):
        if f"{encoder}+{objective}" not in config.skip:
            yield Unit(encoder, objective, seed, fold)


def cells(config: BenchmarkConfig, unit: Unit) -> Iterator[Cell]:
    """All models of one unit."""
    adaptations = ways(config, unit)
    for fraction, draws in zip(config.label_fractions, config.draws, strict=True):
        for adaptation, draw in product(adaptations, range(draws)):
            if f"{unit.encoder}+{unit.objective}+{adaptation}+{fraction:g}" not in config.skip:
                yield Cell(unit, adaptation, fraction, draw)


def ways(config: BenchmarkConfig, unit: Unit) -> tuple[str, ...]:
    """How a unit's encoder is adapted, at one fraction of labels or more."""
    if unit.objective == BASELINE:
        return (BASELINE,)
    return tuple(
        way
        for way in config.adaptations
        if (unit.objective != NONE or config.registered(way) in FROM_SCRATCH)
        and f"{unit.encoder}+{unit.objective}+{way}" not in config.skip
    )
