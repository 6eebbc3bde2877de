"""The embeddings of many stays in a plane, once for each thing that is known of the stays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl

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
LEAST_FOR_UMAP, N_NEIGHBORS = 10, 15
OTHERS, UNKNOWN = "all others", "not known"


class Plane(NamedTuple):
    """``places (N, 2)``, a name for each axis, and what to know of them."""

    places: Array
    axes: tuple[str, str]
    about: str


def section_of(embedding: Array, known: Mapping[str, pl.Series], method: MapName, said: str) -> Section:
    """A map a colouring, of embeddings ``(N, H)``.

    Args:
        embedding: a row a stay.
        known: what may colour them, by name, ``(N,)`` each; the series are named for readers.
        method: principal components, or UMAP.
        said: which stays these are.

    Raises:
        UserError: too few stays for UMAP.
    """
    plane = plane_of(embedding, method)
    figures = [
        _map(plane, values, f"embeddings_{number}_" + re.sub(r"\W", "_", name), said)
        for number, (name, values) in enumerate(known.items())
    ]
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

    n_stays = len(embedding)
    if n_stays < LEAST_FOR_UMAP:
        raise UserError(f"map=umap needs {LEAST_FOR_UMAP} stays, here are {n_stays}: take map=pca")
    umap = UMAP(n_neighbors=min(N_NEIGHBORS, n_stays - 1), random_state=0, n_jobs=1)
    return np.asarray(umap.fit_transform(embedding), dtype=np.float64)


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
        words = _along(plane.places[known], number[known])
        missing = f" Grey: not known, {(~known).sum()}." if not known.all() else ""
    else:
        classes = few_classes(values)
        figure = among_classes(plane.places, classes, plane.axes)
        words = "; ".join(_said(one, plane.places[rows]) for one, rows in classes.items()) + "."
        missing = ""
    caption = f"{said}, a dot each, by {title}.{missing}"
    return Drawn(name, title, caption, f"{caption} {words}", figure)


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
    return "{}: {} around ({:.2f}, {:.2f})".format(name, len(places), *places.mean(0))


def _along(places: Array, number: Array) -> str:
    if len(number) < 2 or not number.std():
        return "It does not vary."
    first, second = (np.corrcoef(place, number)[0, 1] if place.std() else 0.0 for place in places.T)
    return f"Correlation with the axes {first:+.2f} and {second:+.2f}."
