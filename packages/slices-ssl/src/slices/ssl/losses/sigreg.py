"""SIGReg: embeddings whose every shadow is a standard normal. B stays, N of all ranks, M directions."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .averages import all_rows
from .module import LossModule

# of the quadrature: the paper has as many points from -5 to 5; of an even function half of the axis is enough
FARTHEST, N_POINTS = 5.0, 17


def sigreg_loss(
    embedding: Float[Tensor, "B P"],
    directions: Float[Tensor, "M P"],
    valid: Bool[Tensor, "B"] | None = None,
) -> Float[Tensor, ""]:
    """Sketched isotropic Gaussian regularisation (LeJEPA: Balestriero & LeCun, 2025, section 4).

    The statistic of Epps and Pulley, N times the integral over t of ``|phi(t) - exp(-t^2/2)|^2
    exp(-t^2/2)``, where phi is the empirical characteristic function of the embeddings along a direction:
    averaged over directions. By the trapezoid rule, over half of the axis, as the other half is its mirror
    image. Over the valid stays of all ranks, which must have the same directions; 0 where there is none.

    >>> directions = torch.nn.functional.normalize(torch.randn(16, 4), dim=-1)
    >>> normal = torch.randn(512, 4)
    >>> sigreg_loss(normal, directions) < sigreg_loss(torch.ones(512, 4), directions)
    tensor(True)
    """
    with torch.autocast(embedding.device.type, enabled=False):
        rows, weight = all_rows(embedding, valid)
        n = weight.sum()
        shadow = rows @ directions.to(rows.dtype).T  # (N, M)
        point = torch.linspace(0.0, FARTHEST, N_POINTS, device=rows.device, dtype=rows.dtype)
        gaussian = torch.exp(-point.square() / 2)
        angle = shadow.unsqueeze(-1) * point  # (N, M, points)
        share = (weight / n.clamp(min=1)).unsqueeze(-1)
        real, imaginary = ((part * share).sum(0) for part in (angle.cos(), angle.sin()))
        distance = (real - gaussian).square() + imaginary.square()
        integral = 2 * torch.trapezoid(distance * gaussian, point, dim=-1)
    return n * integral.mean()


class SIGRegLoss(LossModule):
    """:func:`sigreg_loss` as a module."""

    function = staticmethod(sigreg_loss)
