"""Is an embedding still worth having? Pure functions on the embeddings of some stays.

A collapse does not show in the loss: it may even fall faster. Letters: N stays, H embedding width.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

LEAST_STD = 0.1  # of that at the start
LEAST_RANK = 0.15  # of that at the start
LEAST_DIMENSIONS = 1.4, 0.1  # and of that at the start
MOST_ROWS = 1024  # whose pairs are looked at


class Health(NamedTuple):
    """What there is to see of an embedding; see the functions of the same names."""

    std: float
    rank: float
    dimensions: float
    uniformity: float
    alignment: float

    @classmethod
    def of(
        cls, embedding: Float[Tensor, "N H"], first: Float[Tensor, "N H"], second: Float[Tensor, "N H"]
    ) -> Health:
        """Of the embeddings of some stays, and of two views of each."""
        scores = (
            embedding_std(embedding),
            rank_me(embedding),
            dimensions(embedding),
            uniformity(embedding),
            alignment(first, second),
        )
        return cls(*(score.item() for score in scores))


def collapse(now: Health, start: Health) -> str | None:
    """In words what is wrong with an embedding, given what that of the untrained encoder was; None: nothing.

    It is *one point* where its standard deviation is below a tenth of that at the start, *few dimensions*
    where its rank is below 15 % of that at the start, or its variance has fewer than 1.4 dimensions and a
    tenth of those at the start. Healthy training may leave a seventh of the standard deviation, as it first
    moves what all embeddings have in common, or a third of the rank. The rank alone would miss one direction
    that outweighs many small ones.

    >>> start = Health(std=0.4, rank=24.0, dimensions=15.0, uniformity=-1.5, alignment=0.2)
    >>> collapse(start._replace(std=0.06, rank=8.0, dimensions=2.0), start)
    >>> collapse(start._replace(rank=2.0), start)
    'few dimensions: rank 2, 24 at the start'
    """
    few, share = LEAST_DIMENSIONS
    least = {
        "std": (LEAST_STD * start.std, "one point"),
        "rank": (LEAST_RANK * start.rank, "few dimensions"),
        "dimensions": (min(few, share * start.dimensions), "few dimensions"),
    }
    for name, (bound, what) in least.items():
        value, before = getattr(now, name), getattr(start, name)
        if not math.isfinite(value):
            return f"numbers that are not finite: {name} {value}"
        if value < bound:
            return f"{what}: {name} {value:.2g}, {before:.2g} at the start"
    return None


def embedding_std(embedding: Float[Tensor, "N H"]) -> Float[Tensor, ""]:
    """The standard deviation of a coordinate of unit-length embeddings, times the root of H.

    1 where embeddings point everywhere, 0 where all point the same way (SimSiam: Chen & He, 2021, section
    4.1). Of fewer than two stays 0.

    >>> embedding_std(torch.eye(4)), embedding_std(torch.ones(4, 3))
    (tensor(0.8660), tensor(0.))
    """
    direction = F.normalize(embedding.float(), dim=-1)
    if len(direction) < 2:
        return direction.new_zeros(())
    std: Tensor = direction.std(0, correction=0).mean() * direction.shape[-1] ** 0.5
    return std


def rank_me(embedding: Float[Tensor, "N H"]) -> Float[Tensor, ""]:
    """The effective number of dimensions, from 1 to H (RankMe: Garrido et al., 2023, equation 1).

    The exponential of the entropy of the singular values' shares. Of centred embeddings, as a constant offset
    would count as a dimension and hide that there is no other. 0 where all embeddings are one point.

    >>> crossed = torch.cat([torch.eye(4), -torch.eye(4)])
    >>> round(rank_me(crossed).item(), 3), rank_me(torch.ones(4, 3)).item()
    (4.0, 0.0)
    """
    return _effective(_singular_values(embedding))


def dimensions(embedding: Float[Tensor, "N H"]) -> Float[Tensor, ""]:
    """The effective number of dimensions of the variance: as :func:`rank_me`, of squared singular values.

    Directions count by their variance, so that many small ones do not hide a large one.

    >>> one_large = torch.tensor([10.0, 1.0, 1.0, 1.0]).diag()
    >>> both = torch.cat([one_large, -one_large])
    >>> rank_me(both), dimensions(both)
    (tensor(2.2116), tensor(1.1778))
    """
    return _effective(_singular_values(embedding).square())


def _singular_values(embedding: Float[Tensor, "N H"]) -> Float[Tensor, "K"]:
    """Of the centred embeddings, in double precision; 0 for what rounding leaves of one point."""
    rows = embedding.double()
    centred = rows - rows.mean(0)
    if not centred.isfinite().all():
        return torch.tensor([torch.nan])
    values: Tensor = torch.linalg.svdvals(centred)
    noise: Tensor = torch.finfo(torch.float32).eps * rows.norm()
    return torch.where(values > noise, values, 0.0)


def _effective(weights: Float[Tensor, "K"]) -> Float[Tensor, ""]:
    """How many equal ones would have the entropy of these; 0 where all are 0."""
    total = weights.sum()
    share = weights / total.where(total != 0, 1.0)
    number: Tensor = torch.special.xlogy(share, share).sum().neg().exp().where(total != 0, 0.0)
    return number.float()


def uniformity(embedding: Float[Tensor, "N H"]) -> Float[Tensor, ""]:
    """How evenly unit-length embeddings fill the sphere, lower is more (Wang & Isola, 2020, equation 2).

    log of the mean over pairs of exp(-2 |x - y|^2): 0 where all are one point. Of the first 1024 stays, 0 of
    fewer than two.

    >>> uniformity(torch.ones(4, 3))
    tensor(0.)
    """
    direction = F.normalize(embedding.float()[:MOST_ROWS], dim=-1)
    if len(direction) < 2:
        return direction.new_zeros(())
    potential: Tensor = torch.pdist(direction).square().mul(-2).exp()
    mean: Tensor = potential.mean()
    return mean.log()


def alignment(first: Float[Tensor, "N H"], second: Float[Tensor, "N H"]) -> Float[Tensor, ""]:
    """The mean squared distance of the unit-length embeddings of two views of a stay (Wang & Isola, 2020,
    equation 1, with exponent 2): 0 where they are the same.

    >>> alignment(torch.eye(2), 3 * torch.eye(2)), alignment(torch.eye(2), -torch.eye(2))
    (tensor(0.), tensor(4.))
    """
    if not len(first):
        return first.new_zeros((), dtype=torch.float32)
    one, other = (F.normalize(view.float(), dim=-1) for view in (first, second))
    return (one - other).square().sum(-1).mean()
