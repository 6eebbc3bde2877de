"""Random state as a function of where training stands, so that nothing needs to be saved to resume."""

from __future__ import annotations

from hashlib import blake2b

import torch


def seed_of(*keys: int | str) -> int:
    """A seed in [0, 2**63) for these keys; any change of a key gives an unrelated one.

    >>> seed_of(0, "train", 1) == seed_of(0, "train", 1) != seed_of(0, "train", 2)
    True
    """
    return int.from_bytes(blake2b(repr(keys).encode(), digest_size=8).digest(), "big") >> 1


def generator(device: torch.device, *keys: int | str) -> torch.Generator:
    """A generator on ``device``, seeded by ``keys``."""
    return torch.Generator(device).manual_seed(seed_of(*keys))


def seed_globally(device: torch.device, *keys: int | str) -> None:
    """Seeds the global random state of the processor and of ``device``, the current one, by ``keys``.

    ``torch.manual_seed`` asks for every kind of device, which takes as long as a small layer.
    """
    seed = seed_of(*keys)
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
