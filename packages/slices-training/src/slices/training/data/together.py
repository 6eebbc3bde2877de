"""Samples of several tasks as one list, each with the labels that it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from slices.training.data.samples import Samples
from slices.training.data.views import Index


class Labels(NamedTuple):
    """``label`` and ``label_mask`` of one task, as in ``Samples``."""

    label: npt.NDArray[Any]
    label_mask: npt.NDArray[np.bool_]


def together(of_tasks: Mapping[str, Samples]) -> tuple[Samples, dict[str, Labels]]:
    """All samples that some task has, those of equal stay and hours as one; and the labels of each task.

    A label stays with the prediction time that it belongs to: where tasks are asked at other times, a sample
    has a label of some of them. The samples carry those of the first task.
    """
    keys = [np.stack([s.stay.astype(np.float64), s.start, s.until], axis=1) for s in of_tasks.values()]
    merged, place = np.unique(np.concatenate(keys), axis=0, return_inverse=True)
    ends = np.cumsum([len(key) for key in keys])[:-1]
    labels = {
        name: _spread(samples, where, len(merged))
        for (name, samples), where in zip(of_tasks.items(), np.split(place.reshape(-1), ends), strict=True)
    }
    stay, start, until = merged.T
    hours = (start.astype(np.float32), until.astype(np.float32))
    return Samples(stay.astype(np.int64), *hours, *next(iter(labels.values()))), labels


def _spread(samples: Samples, place: Index, n_samples: int) -> Labels:
    """The labels at their places among more samples, 0 and not there elsewhere."""
    assert samples.label is not None and samples.label_mask is not None
    shape = (n_samples, *samples.label.shape[1:])
    label, mask = np.zeros(shape, samples.label.dtype), np.zeros(shape, dtype=bool)
    label[place], mask[place] = samples.label, samples.label_mask
    return Labels(label, mask)
