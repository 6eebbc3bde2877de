"""Checks and ranges that several configs share."""

from __future__ import annotations

from typing import Literal

CompileMode = Literal["default", "reduce-overhead", "max-autotune"]  # of torch.compile
OnNonfinite = Literal["stop", "skip"]  # of a step whose loss or gradient is not finite


def require_at_least_one(config: object, *names: str) -> None:
    """Raises ``ValueError`` naming an option that is set, but below 1."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ValueError(f"{name}={value}: allowed is 1 or more")
