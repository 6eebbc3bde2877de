from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import Tensor

torch.set_num_threads(1)
settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("unhurried")

Stays = dict[str, Tensor]


def make_stays(b: int = 3, t: int = 6, d: int = 5, seed: int = 0) -> Stays:
    """Random stays: half the cells observed, irregular times, padding inside and after the second."""
    g = torch.Generator().manual_seed(seed)
    padding_mask = torch.ones(b, t, dtype=torch.bool)
    if b > 1:
        padding_mask[1, [1, t - 2, t - 1]] = False
    mask = (torch.rand(b, t, d, generator=g) < 0.5) & padding_mask.unsqueeze(-1)
    return {
        "x": torch.randn(b, t, d, generator=g) * mask,
        "mask": mask,
        "padding_mask": padding_mask,
        "times": torch.rand(b, t, generator=g).cumsum(1) * padding_mask,
        "counts": torch.randint(1, 5, (b, t, d), generator=g) * mask.float(),
    }


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(name="make_stays")
def make_stays_fixture() -> Callable[..., Stays]:
    return make_stays


@pytest.fixture
def stays() -> Stays:
    return make_stays()
