"""The embeddings of many stays in a plane, once for each thing that is known of the stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from slices.encoders.registry import unknown
from slices.training.errors import UserError
from slices.training.evaluation.bootstrap import Array
from slices.training.looking.config import MapName
from slices.training.looking.drawing import among_classes, in_the_plane
from slices.training.report.figure import Drawn
from slices.training.report.page import Section

MOST_CLASSES = 6  # colours that are told apart
ABOUT_UMAP = (
    "By UMAP (McInnes et al., 2018): neighbours stay near each other; distances between clusters, and their "
    "sizes, mean nothing."
)
OTHERS, UNKNOWN = "all others", "not known"


class Plane(NamedTuple):
    """``places (N, 2)``, a name for each axis, and what to know of them."""

    places: Array
    axes: tuple[str, str]
    about: str


def section_of(
    embedding: Array, known: Mapping[str, pl.Series], color_by: Sequence[str], method: MapName, said: str
) -> Section:
    """A map a colouring, of embeddings ``(N, H)``.

    Args:
        embedding: a row a stay.
        known: what may colour them, by name, ``(N,)`` each; the series are named for readers.
        color_by: some of these names; all, where there are none.
        method: principal components, or UMAP.
        said: which stays these are.

    Raises:
        UserError: a name that is not known.
    """
    for name in color_by:
        if name not in known:
            raise UserError(unknown("color_by", name, known))
    plane = plane_of(embedding, method)
    figures = [_map(plane, known[name], name, said) for name in color_by or known]
    return Section("Embeddings", plane.about, tuple(figures))


def plane_of(embedding: Array, method: MapName) -> Plane:
    """Where embeddings ``(N, H)`` lie in a plane."""
    if method == "umap":
        return Plane(_umap(embedding), ("UMAP 1", "UMAP 2"), ABOUT_UMAP)
    places, share = principal_plane(embedding)
    axes = [f"{place} principal component" for place in ("first", "second")]
    about = f"The plane of the first two principal components has {share.sum():.0%} of the variance."
    return Plane(places, (f"{axes[0]} ({share[0]:.0%})", f"{axes[1]} ({share[1]:.0%})"), about)


def _umap(embedding: Array) -> Array:
    from umap import UMAP

    return np.asarray(UMAP(random_state=0, n_jobs=1).fit_transform(embedding), dtype=np.float64)


def principal_plane(embedding: Array) -> tuple[Array, Array]:
    """Embeddings ``(N, H)`` on their first two principal axes, ``(N, 2)``, and the axes' share of variance.

    >>> places, share = principal_plane(np.array([[0.0, 0, 0], [2, 0, 0], [0, 1, 0], [2, 1, 0]]))
    >>> np.abs(places[:, 0]).tolist(), share.tolist()
    ([1.0, 1.0, 1.0, 1.0], [0.8, 0.2])
    """
    left, size, _ = np.linalg.svd(embedding - embedding.mean(0), full_matrices=False)
    places, share = np.zeros((len(embedding), 2)), np.zeros(2)
    n_axes = min(2, len(size))
    places[:, :n_axes] = left[:, :n_axes] * size[:n_axes]
    share[:n_axes] = (size**2 / max((size**2).sum(), np.finfo(float).tiny))[:n_axes]
    return places, share


def _map(plane: Plane, values: pl.Series, name: str, said: str) -> Drawn:
    title = values.name
    if values.dtype.is_numeric():
        number = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        known = np.isfinite(number)
        figure = in_the_plane(plane.places, number, plane.axes, title)
        along = [_correlation(plane.places[known, axis], number[known]) for axis in (0, 1)]
        words = f"Correlation with the axes {along[0]:+.2f} and {along[1]:+.2f}."
        missing = f" Grey: not known, {(~known).sum()}." if not known.all() else ""
    else:
        classes = few_classes(values)
        figure = among_classes(plane.places, classes, plane.axes)
        words = "; ".join(_said(one, plane.places[rows]) for one, rows in classes.items()) + "."
        missing = ""
    caption = f"{said}, a dot each, by {title}.{missing}"
    return Drawn(f"embeddings_{name}".replace(" ", "_"), title, caption, f"{caption} {words}", figure)


def few_classes(values: pl.Series) -> dict[str, Array]:
    """The rows of each class ``(N,)``, the most frequent first, then all others and the unknown.

    >>> {name: rows.sum().item() for name, rows in few_classes(pl.Series(list("aabcdefgh") + [None])).items()}
    {'a': 2, 'b': 1, 'c': 1, 'd': 1, 'all others': 4, 'not known': 1}
    """
    text = values.cast(pl.String).fill_null(UNKNOWN).alias("class")
    counts = text.value_counts().filter(pl.col("class") != UNKNOWN)
    ordered = counts.sort(["count", "class"], descending=[True, False])["class"].to_list()
    kept = ordered if len(ordered) < MOST_CLASSES else ordered[: MOST_CLASSES - 2]
    place = text.to_numpy()
    classes = {name: place == name for name in kept}
    if len(kept) < len(ordered):
        classes[OTHERS] = ~np.isin(place, [*kept, UNKNOWN])
    return classes | ({UNKNOWN: place == UNKNOWN} if (place == UNKNOWN).any() else {})


def _said(name: str, places: Array) -> str:
    return "{}: {} around ({:.2g}, {:.2g})".format(name, len(places), *places.mean(0))


def _correlation(place: Array, number: Array) -> float:
    if len(number) < 2 or not place.std() or not number.std():
        return 0.0
    return float(np.corrcoef(place, number)[0, 1])
