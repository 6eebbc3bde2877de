from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slices.encoders import Normalizer

VALUES = st.floats(-1e6, 1e6, width=32)
VARIABLES = st.tuples(
    st.sampled_from(["identity", "log"]),
    st.floats(-100, 100),
    st.floats(0.01, 100),
    st.lists(VALUES, min_size=1),
)


def one(transform: str, location: float, scale: float, clip: float = 10.0) -> Normalizer:
    return Normalizer([transform], [location], [scale], clip)


@given(VARIABLES)
def test_equals_the_formula(variable: tuple[str, float, float, list[float]]) -> None:
    transform, location, scale, values = variable
    out = one(transform, location, scale)(torch.tensor(values)[:, None])[:, 0].tolist()
    for value, got in zip(values, out, strict=True):
        logged = math.copysign(math.log1p(abs(value)), value) if transform == "log" else value
        expected = min(max((logged - location) / scale, -10), 10)
        assert got == pytest.approx(expected, abs=1e-3, rel=1e-3)


@given(VARIABLES)
def test_inverse_undoes_what_was_not_clipped(variable: tuple[str, float, float, list[float]]) -> None:
    transform, location, scale, values = variable
    normalizer, x = one(transform, location, scale), torch.tensor(values)[:, None]
    out = normalizer(x)
    kept = out.abs() < 10
    torch.testing.assert_close(
        normalizer.inverse(out)[kept], x[kept], rtol=1e-3, atol=1e-3 * max(1, abs(location))
    )


@given(VARIABLES)
def test_order_is_kept(variable: tuple[str, float, float, list[float]]) -> None:
    transform, location, scale, values = variable
    out = one(transform, location, scale)(torch.tensor(sorted(values))[:, None])
    assert (out.diff(dim=0) >= 0).all()


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1), st.sampled_from(["identity", "log"]))
def test_whatever_is_observed_comes_out_within_the_clip(values: list[float], transform: str) -> None:
    out = one(transform, 3.0, 0.5, clip=4.0)(torch.tensor(values)[:, None])
    assert (out.abs() <= 4).all()


@given(st.lists(st.floats(width=32), min_size=1))
def test_single_values_come_out_as_in_a_table(values: list[float]) -> None:
    normalizer = Normalizer(["log", "identity"], [0.5, 1.0], [2.0, 3.0])
    x = torch.tensor(values)[:, None].expand(-1, 2).contiguous()
    variable = torch.arange(2).expand(len(values), -1)
    torch.testing.assert_close(normalizer.at(x, variable), normalizer(x), equal_nan=True)
    assert torch.equal(x, torch.tensor(values)[:, None].expand(-1, 2)) or x.isnan().any()  # left alone


@pytest.mark.parametrize("shape", [(2,), (3, 2), (4, 3, 2)])
def test_any_leading_shape_and_zero_where_unobserved(shape: tuple[int, ...]) -> None:
    normalizer = Normalizer(["log", "identity"], [0.5, 1.0], [2.0, 3.0])
    x, mask = torch.randn(shape), torch.rand(shape) < 0.5
    out = normalizer(x.masked_fill(~mask, float("nan")), mask)
    assert torch.equal(out, normalizer(x).masked_fill(~mask, 0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"transforms": ["logs"]}, "unknown transform 'logs': did you mean 'log'"),
        ({"scale": [0.0]}, r"scale must be positive, got \[0.0\]"),
        ({"scale": [math.inf]}, "scale must be finite"),
        ({"location": [math.nan]}, "location must be finite"),
        ({"location": [1.0, 2.0]}, "location must hold 1 number"),
        ({"clip": 0.0}, "clip must be positive"),
        ({"clip": math.inf}, "clip must be positive and finite"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Normalizer(**{"transforms": ["log"], "location": [0.0], "scale": [1.0]} | wrong)


@given(st.floats(-(2.0**99), 2.0**99, width=32), st.floats(2.0**-99, 2.0**99, width=32))
def test_its_plain_values_and_its_state_hold_all_of_it(location: float, scale: float) -> None:
    normalizer = one("log", location, scale, clip=7.5)
    again = Normalizer.from_dict(json.loads(json.dumps(normalizer.to_dict())))
    restored = one("log", 0.0, 1.0, clip=7.5)
    restored.load_state_dict(normalizer.state_dict())
    for other in (again, restored):
        assert torch.equal(other.location, normalizer.location)
        assert torch.equal(other.scale, normalizer.scale)
        assert other.to_dict() == normalizer.to_dict()


def test_it_has_nothing_to_train() -> None:
    normalizer = one("log", 0.0, 1.0)
    assert not list(normalizer.parameters())
    assert not copy.deepcopy(normalizer)(torch.ones(1)).requires_grad
