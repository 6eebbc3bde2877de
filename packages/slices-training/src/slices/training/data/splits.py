"""Splits by patient, from a hash of the id: nobody changes sides when others come or go."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from slices.encoders.registry import unknown
from slices.training.ranges import require_seed

TEST, VAL, FOLD = 0, 1, 2  # independent streams of one seed; 3 draws label fractions

NO_SET = "none"


@dataclass(kw_only=True)
class SplitConfig:
    """Who is tested on, who is validated on, who is trained on.

    The pool is ``train_sets``, or else every set that is not in ``test_sets`` or ``val_sets``. The test split
    is ``test_sets`` if given, else fold ``fold`` of ``n_folds`` of the pool, else ``test_fraction`` of
    it. ``val_sets`` validate if given, else ``val_fraction`` of what then remains of the pool; the rest
    trains. A fraction of 0 means that a split is not wanted. Sets may be named by shell patterns.
    """

    seed: int = 0
    val_fraction: float = 0.15
    test_fraction: float = 0.15
    train_sets: tuple[str, ...] = ()
    val_sets: tuple[str, ...] = ()
    test_sets: tuple[str, ...] = ()
    n_folds: int | None = None
    fold: int = 0

    def __post_init__(self) -> None:
        require_seed(self, "seed")
        for name in ("val_fraction", "test_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: allowed is 0 up to, but not including, 1")
        if self.n_folds is not None and self.n_folds < 2:
            raise ValueError(f"n_folds={self.n_folds}: allowed is 2 or more, or null")
        if not 0 <= self.fold < (self.n_folds or 1):
            raise ValueError(
                f"fold={self.fold}: allowed is 0 to {(self.n_folds or 1) - 1} (n_folds={self.n_folds})"
            )
        if self.n_folds is not None and self.test_sets:
            raise ValueError(
                f"n_folds={self.n_folds} and test_sets={self.test_sets} both name the test split"
            )
        for one, other in combinations(("train_sets", "val_sets", "test_sets"), 2):
            if both := sorted(set(getattr(self, one)) & set(getattr(self, other))):
                raise ValueError(f"{one} and {other} share {', '.join(both)}")


def uniform_hash(ids: npt.NDArray[np.int64], seed: int, stream: int = 0) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each id, the same on every machine (splitmix64, Steele et al. 2014).

    >>> uniform_hash(np.array([1, 2, 3]), seed=0).round(3)
    array([0.034, 0.843, 0.781])
    """
    with np.errstate(over="ignore"):
        state = _mix(
            np.asarray([seed], dtype=np.int64).astype(np.uint64) + np.uint64(stream) * np.uint64(_GAMMA)
        )
        bits = _mix(ids.astype(np.int64).astype(np.uint64) ^ state)
    return np.asarray((bits >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


_GAMMA = 0x9E3779B97F4A7C15


def _mix(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    z = z + np.uint64(_GAMMA)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def digest_of(patient_id: npt.NDArray[np.int64]) -> str:
    """Tells one group of patients from another without naming them; equal whatever their order."""
    return hashlib.sha256(np.unique(patient_id).astype("<i8").tobytes()).hexdigest()[:16]


def split_stays(
    patient_id: npt.NDArray[np.int64], sets: Sequence[str | None], config: SplitConfig
) -> dict[str, npt.NDArray[np.int64]]:
    """Positions of the stays of ``train``, ``val`` and ``test``, ascending.

    All stays of a patient are on one side. Raises ``ValueError`` for a set that is not there, for
    patients on both sides of named sets, and for a split that is wanted but empty.
    """
    names = np.asarray([NO_SET if name is None else name for name in sets])
    train, val, test = (_named(names, getattr(config, f"{split}_sets")) for split in ("train", "val", "test"))
    pool = train if config.train_sets else ~(val | test)
    _refuse_shared(patient_id, {"train_sets": pool, "val_sets": val, "test_sets": test})
    if not config.test_sets:
        test = pool & _drawn_test(patient_id, config)
    remaining = pool & ~test
    if not config.val_sets:
        val = remaining & (uniform_hash(patient_id, config.seed, VAL) < config.val_fraction)
    masks = {"train": remaining & ~val, "val": val, "test": test}
    return {name: np.flatnonzero(mask) for name, mask in masks.items()}


def _named(names: npt.NDArray[np.str_], patterns: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which stays are of the named sets."""
    known = np.unique(names)
    chosen = []
    for pattern in patterns:
        if not (found := fnmatch.filter(known, pattern)):
            raise ValueError(f"data.splits: {unknown('set of stays', pattern, known)}")
        chosen += found
    return np.isin(names, chosen)


def _drawn_test(patient_id: npt.NDArray[np.int64], config: SplitConfig) -> npt.NDArray[np.bool_]:
    if config.n_folds is not None:
        folds = np.floor(uniform_hash(patient_id, config.seed, FOLD) * config.n_folds)
        return np.asarray(folds == config.fold)
    return uniform_hash(patient_id, config.seed, TEST) >= 1 - config.test_fraction


def _refuse_shared(patient_id: npt.NDArray[np.int64], of: dict[str, npt.NDArray[np.bool_]]) -> None:
    for (one, first), (other, second) in combinations(of.items(), 2):
        shared = np.intersect1d(patient_id[first], patient_id[second])
        if len(shared):
            raise ValueError(
                f"data.splits: {len(shared)} patients are in {one} and in {other}: "
                "a patient trained on cannot be tested on. Name other sets, or split by fraction"
            )


def refuse_empty(splits: dict[str, npt.NDArray[np.int64]], config: SplitConfig, what: str) -> None:
    """Raise ``ValueError`` for a split that is wanted but has no stay; ``what`` says which stays count."""
    wanted = {
        "train": True,
        "val": bool(config.val_sets) or config.val_fraction > 0,
        "test": bool(config.test_sets) or config.n_folds is not None or config.test_fraction > 0,
    }
    sizes = ", ".join(f"{name} {len(stays)}" for name, stays in splits.items())
    for name, stays in splits.items():
        if wanted[name] and not len(stays):
            raise ValueError(
                f"the {name} split is empty ({what}: {sizes}): change data.splits "
                "(fractions, sets, folds or seed), or use more stays"
            )
