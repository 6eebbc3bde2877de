"""Settings of LightGBM by cross-validation inside the training rows."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slices.training.evaluation.folds import stratified_folds

log = logging.getLogger(__name__)
LEAVES = (7, 15, 31)
SHARES = (0.1, 0.2, 0.4)  # of the features, for each tree
N_FOLDS = 5
MOST_TREES, PATIENCE = 3000, 100


def tuned_trees(
    features: NDArray[np.float64],
    label: NDArray[np.float64],
    group: NDArray[np.int64],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Leaves, share of features and number of trees with the least held-out loss.

    Five folds, stratified by class, whole groups (patients) at a time; the number of trees is where the mean
    loss of the folds stops falling. With too few labels for folds the options are given back.

    Args:
        features: (N, F).
        label: (N,), known in every row.
        group: (N,).
        options: of ``lightgbm.train``, ``objective`` among them.

    Returns:
        The options with what was chosen, ``num_iterations`` and ``cv_loss``.
    """
    import lightgbm

    regression = options["objective"] == "l2"
    strata = torch.from_numpy(np.zeros_like(label) if regression else label)
    fold = stratified_folds(strata, torch.from_numpy(group), N_FOLDS, seed=int(options["seed"]))
    if fold is None:
        log.info("too few labels for folds: settings as they are")
        return dict(options)
    splits = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(int(fold.max()) + 1)]
    best: dict[str, Any] = {"cv_loss": np.inf}
    for leaves, share in product(LEAVES, SHARES):
        tried = {**options, "num_leaves": leaves, "feature_fraction": share}
        tried.pop("num_iterations", None)  # it would overrule num_boost_round
        history = lightgbm.cv(
            tried,
            lightgbm.Dataset(features, label, params={"verbose": -1}),
            num_boost_round=MOST_TREES,
            folds=splits,
            callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
        )
        (losses,) = (np.asarray(values) for name, values in history.items() if name.endswith("-mean"))
        n_trees, loss = int(losses.argmin()) + 1, float(losses.min())
        log.info(
            "%d leaves, %g of the features: loss %.5f with %d trees", leaves, share, min(losses), n_trees
        )
        if loss < best["cv_loss"]:
            best = {**tried, "num_iterations": n_trees, "cv_loss": loss}
    return best
