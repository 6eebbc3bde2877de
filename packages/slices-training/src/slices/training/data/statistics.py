"""Statistics of the training split, as the normaliser that goes with the encoder."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from slices.encoders import Normalizer
from slices.training.data.sampling import MOST, sample_stays
from slices.training.data.store import StayStore
from slices.training.data.views import View

CLIP = 5.0  # normalised values are clipped to ±5: five robust standard deviations
IQR_OF_NORMAL = 1.349  # interquartile range of a standard normal distribution


def fit_normalizer(
    store: StayStore, view: View, stays: npt.NDArray[np.int64], *, clip: float = CLIP, most: int = MOST
) -> Normalizer:
    """Robust location and scale of each column, from single events of the given stays up to the horizon.

    Heavy-tailed variables are taken in logarithms first, as they are declared. Location is the median,
    scale the interquartile range / 1.349, or the standard deviation where that is 0, or 1 where that is
    0 too. Columns that only hold 0 and 1, and columns without an event, are left as they are. Amounts are
    taken as charted too: a wide bin's sum lies above them, by the logarithm of how many it adds up. Of more
    than ``most`` events, about as many are taken, those of a sample of the stays (see ``sample_stays``).
    """
    transforms = ["identity"] * len(view.static)
    for variable, column in zip(store.variables, view.column, strict=True):
        if column >= 0:
            transforms[column] = variable.transform
    column, value = _events(store, view, stays, most)
    order = np.argsort(column, kind="stable")
    value = value[order]
    edges = np.searchsorted(column[order], np.arange(len(transforms) + 1))
    fitted = [
        _location_and_scale(value[start:stop], transform)
        for transform, start, stop in zip(transforms, edges[:-1], edges[1:], strict=True)
    ]
    location, scale = zip(*fitted, strict=True)
    return Normalizer(transforms, location, scale, clip=clip)


def refuse_unseen(store: StayStore, view: View, stays: npt.NDArray[np.int64]) -> None:
    """Raise ``ValueError`` where none of these stays has a measurement, statics apart, before the horizon."""
    for some in np.array_split(stays, max(1, len(stays) // 1000)):
        position = np.concatenate([np.arange(*store.offsets[[stay, stay + 1]]) for stay in some])
        time, variable, _ = store.events_at(torch.from_numpy(position))
        column = view.column[variable.numpy()]
        dynamic = (column >= 0) & ~view.static[np.maximum(column, 0)]
        if (dynamic & (time.numpy() <= view.horizon)).any():
            return
    raise ValueError(
        f"none of the {len(stays):,} training stays has a measurement in the first {view.horizon:g} hours "
        f"(data.horizon); stays last {np.median(store.length_hours[stays]):g} hours in the median: "
        "are times in another unit, or was everything left out? `describe` tells"
    )


def _events(
    store: StayStore, view: View, stays: npt.NDArray[np.int64], most: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Columns and values of the stays' events, or where they are too many of a sample of the stays."""
    size = store.offsets[stays + 1] - store.offsets[stays]
    sampled = sample_stays(store.stay_id[stays], int(size.sum()), most)
    stays, size = stays[sampled], size[sampled]
    position = np.arange(size.sum()) + np.repeat(store.offsets[stays] - np.cumsum(size) + size, size)
    time, variable, value = (field.numpy() for field in store.events_at(torch.from_numpy(position)))
    column = view.column[variable]
    keep = (column >= 0) & (time <= view.horizon)
    return column[keep], value[keep].astype(np.float64)


def _location_and_scale(value: npt.NDArray[np.float64], transform: str) -> tuple[float, float]:
    if not len(value) or np.isin(value, (0.0, 1.0)).all():
        return 0.0, 1.0
    if transform == "log":
        value = np.sign(value) * np.log1p(np.abs(value))
    lower, median, upper = np.quantile(value, (0.25, 0.5, 0.75))
    candidates = ((upper - lower) / IQR_OF_NORMAL, value.std())
    floor = 1e-6 * max(abs(median), 1.0)  # rounding alone is not spread
    return float(median), float(next((scale for scale in candidates if scale > floor), 1.0))
