"""From raw units to what encoders read, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .registry import unknown

TRANSFORMS = ("identity", "log")


class Normalizer(nn.Module):
    """Transforms, centres, scales and clips each variable; fitted elsewhere, saved with an encoder.

    ``clip((f(x) - location) / scale)`` with ``f`` the identity or ``sign(x) log(1 + |x|)``. It has
    buffers and no parameters, and works on any ``(..., D)``, so the same one serves hourly grids,
    measured timestamps and rows of a table.

    Args:
        transforms: "identity" or "log" for each of the D variables.
        location, scale: D numbers each, of the transformed values.
        clip: the greatest absolute value that leaves ``forward``.

    Raises:
        ValueError: lengths that differ, an unknown transform, a location that is not finite, a scale
            or clip that is not positive and finite.

    >>> normalizer = Normalizer(["identity", "log"], location=[80.0, 0.0], scale=[10.0, 1.0])
    >>> x = torch.tensor([[90.0, float("nan")], [float("inf"), 0.0]])
    >>> normalizer(x, mask=~x.isnan()).tolist()
    [[1.0, 0.0], [10.0, 0.0]]
    """

    location: Tensor
    scale: Tensor
    logarithmic: Tensor

    def __init__(
        self,
        transforms: Sequence[str],
        location: Sequence[float] | Tensor,
        scale: Sequence[float] | Tensor,
        clip: float = 10.0,
    ) -> None:
        super().__init__()
        for transform in transforms:
            if transform not in TRANSFORMS:
                raise ValueError(unknown("transform", transform, TRANSFORMS))
        where = torch.as_tensor(location, dtype=torch.float32)
        width = torch.as_tensor(scale, dtype=torch.float32)
        _check(len(transforms), where, width, clip)
        self.transforms = tuple(transforms)
        self.clip = float(clip)
        self.register_buffer("location", where.detach().clone())
        self.register_buffer("scale", width.detach().clone())
        logarithmic = torch.tensor([transform == "log" for transform in transforms])
        self.register_buffer("logarithmic", logarithmic, persistent=False)

    def forward(
        self, x: Float[Tensor, "*shape D"], mask: Bool[Tensor, "*shape D"] | None = None
    ) -> Float[Tensor, "*shape D"]:
        """Normalised values, 0 where ``mask`` is False. Infinities are clipped; an observed NaN stays one."""
        logged = torch.where(self.logarithmic, x.sign() * x.abs().log1p(), x)
        scaled = ((logged - self.location) / self.scale).clamp(-self.clip, self.clip)
        return scaled if mask is None else torch.where(mask, scaled, 0.0)

    def at(self, value: Float[Tensor, "*shape"], variable: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Normalised single values, each of the variable (column) named beside it."""
        flat, of = value.flatten(), variable.flatten()
        greatest = torch.finfo(flat.dtype).max
        flat = flat.clamp(-greatest, greatest)  # infinity times 0 would be none
        heavy = self.logarithmic.to(flat.dtype).index_select(0, of)
        logged = flat.abs().log1p_().mul_(flat.sign())
        flat = logged.mul_(heavy).add_(flat.mul_(1 - heavy))  # faster than torch.where
        scaled = flat.sub_(self.location.index_select(0, of)).div_(self.scale.index_select(0, of))
        return scaled.clamp_(-self.clip, self.clip).view(value.shape)

    def inverse(self, x: Float[Tensor, "*shape D"]) -> Float[Tensor, "*shape D"]:
        """Normalised values in raw units again; what was clipped stays clipped."""
        logged = x * self.scale + self.location
        return torch.where(self.logarithmic, logged.sign() * logged.abs().expm1(), logged)

    def to_dict(self) -> dict[str, Any]:
        """Everything it is made of, in plain values; ``from_dict`` takes it back without loss."""
        return {
            "transforms": list(self.transforms),
            "location": self.location.tolist(),
            "scale": self.scale.tolist(),
            "clip": self.clip,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Normalizer:
        """The inverse of ``to_dict``."""
        return cls(**values)


def _check(width: int, location: Tensor, scale: Tensor, clip: float) -> None:
    for name, numbers in (("location", location), ("scale", scale)):
        if numbers.shape != (width,):
            raise ValueError(
                f"{name} must hold {width} numbers, one a transform, got shape {tuple(numbers.shape)}"
            )
        if not numbers.isfinite().all():
            raise ValueError(f"{name} must be finite, got {numbers.tolist()}")
    if not (scale > 0).all():
        raise ValueError(f"scale must be positive, got {scale.tolist()}")
    if not 0 < clip < math.inf:
        raise ValueError(f"clip must be positive and finite, got {clip}")
