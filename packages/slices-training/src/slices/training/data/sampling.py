"""Which stays stand for all of them, where a dataset has more rows than quantiles need."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slices.training.data.splits import uniform_hash

MOST = 20_000_000  # events or labels that quantiles are taken from, about
SEED, STREAM = 0, 4  # of the sample: independent of splits and of label fractions


def sample_stays(stay_id: npt.NDArray[np.int64], n_rows: int, most: int = MOST) -> npt.NDArray[np.bool_]:
    """Which of these stays are taken, to have about ``most`` of their ``n_rows`` rows: all of fewer.

    By a hash of the id: the same stays every time, in whatever order and company they come.

    >>> sample_stays(np.array([1, 2, 3]), n_rows=10, most=6)
    array([ True, False,  True])
    """
    return np.asarray(uniform_hash(stay_id, SEED, STREAM) < most / max(n_rows, 1))
