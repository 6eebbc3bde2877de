"""What every registered encoder must hold to, whatever its pooling. A new one is tested by registering."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from slices.encoders import (
    ENCODER_CONFIG_REGISTRY,
    ENCODER_REGISTRY,
    BaseEncoder,
    SeparableEncoder,
    TokenEncoder,
    build_encoder,
    list_encoders,
)
from slices.encoders.config import PoolingName

Stays = dict[str, Tensor]
D = 5
NAMES = list_encoders()
CAUSAL = {"causal": True}


def poolings(name: str) -> list[str]:
    refused = ENCODER_CONFIG_REGISTRY.find(name).refused_poolings
    return [pooling for pooling in get_args(PoolingName) if pooling not in refused]


def usual(name: str) -> set[str]:
    """An embedding a step, and what the architecture's paper has."""
    return {"none", ENCODER_CONFIG_REGISTRY.find(name)().pooling}


CASES = [(name, {"pooling": pooling}) for name in NAMES for pooling in poolings(name)]
CASES += [("transformer", {"pooling": pooling, **CAUSAL}) for pooling in ("none", "mean", "last")]
# Poolings are the same modules for all: in a quick run, all of them with one encoder.
MARKED = [
    case
    if case[0] == "transformer" or case[1]["pooling"] in usual(case[0])
    else pytest.param(case, marks=pytest.mark.slow)
    for case in CASES
]


def build(name: str, **options: Any) -> BaseEncoder:
    options = {"d_input": D, "d_model": 16, "static_columns": (0, 1), **options}
    return build_encoder(name, options).eval()


@pytest.fixture(params=MARKED, ids=lambda case: "-".join([case[0], *map(str, case[1].values())]))
def encoder(request: pytest.FixtureRequest) -> BaseEncoder:
    name, options = request.param
    return build(name, **options)


@pytest.fixture(params=NAMES)
def stepwise(request: pytest.FixtureRequest) -> BaseEncoder:
    return build(request.param, pooling="none")


def per_step(encoder: BaseEncoder) -> bool:
    return encoder.config.pooling == "none"


def same(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=2e-6, rtol=2e-5)


@st.composite
def any_stays(draw: st.DrawFn, d: int = D) -> Stays:
    """Any few stays: how much is observed and real, where padding lies, gaps in time, several at one time."""
    b, t, seed = draw(st.integers(1, 4)), draw(st.integers(1, 9)), draw(st.integers(0, 2**31))
    shares = st.sampled_from([0.0, 0.2, 0.7, 1.1])
    g = torch.Generator().manual_seed(seed)
    real = torch.rand(b, t, generator=g) < draw(shares)
    mask = (torch.rand(b, t, d, generator=g) < draw(shares)) & real.unsqueeze(-1)
    gap = torch.rand(b, t, generator=g) * draw(st.sampled_from([0.1, 1.0, 100.0]))
    gap = gap * (torch.rand(b, t, generator=g) < draw(st.sampled_from([0.5, 1.1])))
    return {
        "x": draw(st.sampled_from([0.1, 1.0, 5.0])) * torch.randn(b, t, d, generator=g) * mask,
        "mask": mask,
        "padding_mask": real,
        "times": (gap.cumsum(1) + draw(st.sampled_from([0.0, -2000.0]))) * real,  # or before admission
        "counts": torch.randint(1, 5, (b, t, d), generator=g) * mask.float(),
    }


few = settings(max_examples=6)
POISON = st.sampled_from([float("nan"), float("inf"), float("-inf"), 1e9])


def test_two_shapes(encoder: BaseEncoder, stays: Stays) -> None:
    out = encoder(**stays)
    b, t, _ = stays["x"].shape
    assert out.shape == ((b, t, encoder.output_dim) if per_step(encoder) else (b, encoder.output_dim))
    assert out.isfinite().all() and out.abs().sum() > 0


def test_missing_arguments_have_their_defaults(encoder: BaseEncoder) -> None:
    x = torch.randn(2, 4, D)
    everything = torch.ones(2, 4, D, dtype=torch.bool)
    told = encoder(x, everything, everything[..., 0], torch.arange(4.0).expand(2, 4), everything.float())
    same(encoder(x), told)


@few
@given(stays=any_stays(), poison=POISON)
def test_unobserved_cells_do_not_matter(encoder: BaseEncoder, stays: Stays, poison: float) -> None:
    dirty = {name: stays[name].masked_fill(~stays["mask"], poison) for name in ("x", "counts")}
    assert torch.equal(encoder(**stays), encoder(**stays | dirty))


@few
@given(stays=any_stays(), poison=POISON)
def test_nothing_at_padding_matters_and_nothing_comes_out_there(
    encoder: BaseEncoder, stays: Stays, poison: float
) -> None:
    padding = ~stays["padding_mask"]
    dirty = {
        "x": stays["x"].masked_fill(padding[..., None], poison),
        "mask": stays["mask"] | padding[..., None],
        "counts": stays["counts"].masked_fill(padding[..., None], poison),
        "times": stays["times"].masked_fill(padding, poison),
    }
    out = encoder(**stays | dirty)
    assert torch.equal(encoder(**stays), out)
    if per_step(encoder):
        assert (out[padding] == 0).all()


def insert_padding(stays: Stays, at: int, n: int) -> Stays:
    def insert(tensor: Tensor) -> Tensor:
        gap = torch.zeros_like(tensor[:, :1]).repeat_interleave(n, 1)
        return torch.cat((tensor[:, :at], gap, tensor[:, at:]), dim=1)

    return {name: insert(tensor) for name, tensor in stays.items()}


@few
@given(stays=any_stays(), place=st.floats(0, 1), n=st.integers(1, 20))
def test_amount_and_place_of_padding_do_not_matter(
    encoder: BaseEncoder, stays: Stays, place: float, n: int
) -> None:
    at = round(place * stays["x"].shape[1])
    out, padded = encoder(**stays), encoder(**insert_padding(stays, at, n))
    same(out, torch.cat((padded[:, :at], padded[:, at + n :]), dim=1) if per_step(encoder) else padded)


@few
@given(stays=any_stays())
def test_stays_do_not_know_of_each_other(encoder: BaseEncoder, stays: Stays) -> None:
    out = encoder(**stays)
    for i in range(len(out)):
        same(out[i : i + 1], encoder(**{name: tensor[i : i + 1] for name, tensor in stays.items()}))


def test_a_step_that_comes_later_matters(encoder: BaseEncoder, stays: Stays) -> None:
    """Of a stay where everything is observed, an inner step moves towards the next."""
    stays = {name: tensor[:1] for name, tensor in stays.items()} | {"mask": torch.ones(1, 6, D).bool()}
    tokens = encoder.encode(**stays)
    times = stays["times"].clone()
    times[:, 2] += 0.9 * (times[:, 3] - times[:, 2])
    assert not torch.equal(tokens.embedding, encoder.encode(**stays | {"times": times}).embedding)


def test_no_stays_have_no_embeddings(encoder: BaseEncoder, stays: Stays) -> None:
    shape = encoder(**stays).shape
    assert encoder(**{name: tensor[:0] for name, tensor in stays.items()}).shape == (0, *shape[1:])


@pytest.mark.parametrize("kind", ["no step", "no observation", "one observation"])
def test_almost_empty_stays_are_finite(encoder: BaseEncoder, stays: Stays, kind: str) -> None:
    stays["mask"][0] = False
    if kind == "no step":
        stays["padding_mask"][0] = False
    if kind == "one observation":
        stays["mask"][0, 3, 2] = True
    x = stays["x"].requires_grad_()
    out = encoder(**stays)
    out.sum().backward()
    assert out.isfinite().all()
    assert x.grad is not None and x.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())
    if kind == "no step":
        assert (out[0] == 0).all()


@few
@given(stays=any_stays())
def test_everything_is_finite(encoder: BaseEncoder, stays: Stays) -> None:
    encoder.zero_grad()
    x = stays["x"].clone().requires_grad_()
    out = encoder(**stays | {"x": x})
    out.sum().backward()
    assert out.isfinite().all()
    assert all(t.grad is None or t.grad.isfinite().all() for t in (x, *encoder.parameters()))


@pytest.mark.parametrize("length", [24, 48, 500])
def test_length_is_free(encoder: BaseEncoder, make_stays: Callable[..., Stays], length: int) -> None:
    before = {name: tensor.shape for name, tensor in encoder.state_dict().items()}
    assert encoder(**make_stays(t=length)).isfinite().all()
    assert before == {name: tensor.shape for name, tensor in encoder.state_dict().items()}


def test_what_is_observed_matters(encoder: BaseEncoder, stays: Stays) -> None:
    def changed(**what: Tensor) -> bool:
        return bool((encoder(**stays) - encoder(**stays | what)).abs().amax() > 1e-5)

    # Step 0 and 5 of the first stay are the first and last one; column 3 is not static.
    stays["mask"][0, 5, 3], stays["counts"][0, 5, 3] = True, 1
    once = torch.zeros_like(stays["x"])
    once[0, 5, 3] = 1
    assert changed(x=stays["x"] + once)
    assert changed(counts=stays["counts"] + once) != ("counts" in encoder.blind_to)
    assert changed(mask=stays["mask"] & ~once.bool())
    assert changed(times=stays["times"] + 1) != ("times" in encoder.blind_to)
    assert changed(times=stays["times"] * 3)


def test_every_step_knows_the_statics(stepwise: BaseEncoder, stays: Stays) -> None:
    stays["mask"][..., :2] = False
    stays["mask"][:, 0, :2] = True
    other = stays["x"].clone()
    other[:, 0, 1] += 1
    moved = (stepwise(**stays) - stepwise(**stays | {"x": other})).abs().amax(-1)
    assert (moved[stays["padding_mask"]] > 1e-6).all()


def test_statics_given_once_are_statics_given_always(encoder: BaseEncoder, stays: Stays) -> None:
    for name in ("x", "mask", "counts"):
        stays[name][..., :2] = 1
    once = {name: stays[name].clone() for name in ("x", "mask", "counts")}
    for tensor in once.values():
        tensor[:, 1:, :2] = 0
    assert torch.equal(encoder(**stays), encoder(**stays | once))


def test_every_parameter_gets_a_gradient(encoder: BaseEncoder, stays: Stays) -> None:
    out = encoder(**stays)
    (out * torch.randn_like(out)).sum().backward()
    untouched = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert not untouched


@pytest.fixture(params=[*((name, {}) for name in NAMES), ("transformer", CAUSAL)], ids=str)
def maybe_causal(request: pytest.FixtureRequest) -> BaseEncoder:
    name, options = request.param
    return build(name, pooling="none", **options)


def with_another_future(stays: Stays, t: int, hours: float = 7.0) -> Stays:
    """The same up to step ``t``; all after it is other, and ``hours`` later."""
    later = {name: tensor.clone() for name, tensor in stays.items()}
    later["x"][:, t + 1 :] = 3
    later["mask"][:, t + 1 :] ^= True
    later["padding_mask"][:, t + 1 :] ^= True
    later["times"][:, t + 1 :] += hours
    later["counts"][:, t + 1 :] += 1
    return later


@few
@given(stays=any_stays(), place=st.floats(0, 1))
def test_a_causal_encoder_does_not_look_ahead(maybe_causal: BaseEncoder, stays: Stays, place: float) -> None:
    if maybe_causal.causal:
        t = round(place * (stays["x"].shape[1] - 1))
        # from the latest hour on, so that what turns from padding into a step is not in the past
        stays["times"] = torch.where(stays["padding_mask"], stays["times"], stays["times"].amax())
        out, other = maybe_causal(**stays), maybe_causal(**with_another_future(stays, t))
        same(out[:, : t + 1], other[:, : t + 1])


def test_only_a_causal_encoder_does_not_look_ahead(maybe_causal: BaseEncoder, stays: Stays) -> None:
    out, other = maybe_causal(**stays), maybe_causal(**with_another_future(stays, 2))
    assert torch.allclose(out[:, :3], other[:, :3], atol=1e-6) == maybe_causal.causal


def test_steps_at_one_time_do_not_look_ahead_either(maybe_causal: BaseEncoder, stays: Stays) -> None:
    stays["times"][:, 2:] = 9.0
    out, other = maybe_causal(**stays), maybe_causal(**with_another_future(stays, 2, hours=0.0))
    assert torch.allclose(out[:, :3], other[:, :3], atol=1e-6) == maybe_causal.causal


def test_dropout_is_for_training(encoder: BaseEncoder, stays: Stays) -> None:
    assert torch.equal(encoder(**stays), encoder(**stays))
    encoder.train()
    assert not torch.equal(encoder(**stays), encoder(**stays))


def test_inputs_are_left_alone(encoder: BaseEncoder, stays: Stays) -> None:
    before = copy.deepcopy(stays)
    encoder(**stays)
    assert all(torch.equal(before[name], stays[name]) for name in stays)


def test_tokens_say_what_they_are(encoder: BaseEncoder, stays: Stays) -> None:
    embedding, valid, time, variable = encoder.encode(**stays)
    b, n = valid.shape
    assert embedding.shape == (b, n, encoder.output_dim)
    assert (valid.dtype, variable.dtype) == (torch.bool, torch.int64)
    assert (embedding[~valid] == 0).all()
    assert ((variable >= -2) & (variable < D)).all()
    span = stays["times"].amax(1, keepdim=True)
    assert ((time >= 0) & (time <= span + 1e-4) | ~valid | (variable == -2)).all()
    steps = variable[0] == -1
    if not isinstance(encoder, TokenEncoder) or encoder.tokens_are_steps:
        assert torch.equal(valid[:, steps], stays["padding_mask"])
        assert torch.equal(time[:, steps], stays["times"])
        assert (variable[:, ~steps] == -2).all()
        if per_step(encoder):
            assert torch.equal(embedding, encoder(**stays))


def hide(stays: Stays, keep: Tensor) -> Stays:
    mask = stays["mask"] & keep
    real = stays["padding_mask"] & (mask.any(-1) | keep.any(-1))
    return stays | {
        "x": stays["x"] * mask,
        "mask": mask,
        "counts": stays["counts"] * mask,
        "padding_mask": real,
    }


@pytest.mark.parametrize(
    ("name", "options"),
    [case for case in CASES if issubclass(ENCODER_REGISTRY.find(case[0]), SeparableEncoder)],
)
def test_hidden_tokens_can_be_dropped(name: str, options: dict[str, Any], stays: Stays) -> None:
    encoder = build(name, **options)
    assert isinstance(encoder, SeparableEncoder)
    keep = (
        torch.tensor([True, False, True, True, False, True])[None, :, None].expand_as(stays["mask"]).clone()
    )
    keep[2, 3] = False
    keep[..., :2] |= stays["mask"][..., :2] & (torch.arange(6) == 0)[:, None]
    hidden = hide(stays, keep)
    tokens = encoder.tokenize(**hidden)
    k = int(tokens.valid.sum(1).max())
    kept = tokens.valid.byte().topk(k, dim=1).indices
    dropped = type(tokens)(
        *(
            field.gather(1, kept[..., None].expand(-1, -1, field.shape[-1]) if field.ndim == 3 else kept)
            for field in tokens
        )
    )
    few, many = encoder.encode_tokens(dropped), encoder.encode(**hidden)
    same(few.embedding, many.embedding.gather(1, kept[..., None].expand_as(few.embedding)))


def test_bfloat16_weights_agree(encoder: BaseEncoder, stays: Stays) -> None:
    out = encoder(**stays)
    low = copy.deepcopy(encoder).bfloat16()(**stays | {"x": stays["x"].bfloat16()})
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), out, atol=0.06, rtol=0.06)


def test_bfloat16_autocast_agrees(encoder: BaseEncoder, stays: Stays) -> None:
    out = encoder(**stays)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = encoder(**stays)
        low_too = encoder(**stays | {"x": stays["x"].bfloat16()})
    torch.testing.assert_close(low.float(), out, atol=0.06, rtol=0.06)
    torch.testing.assert_close(low_too.float(), out, atol=0.06, rtol=0.06)


def test_values_wider_than_the_weights_are_refused(encoder: BaseEncoder, stays: Stays) -> None:
    with pytest.raises(ValueError, match=r"x is torch\.float64, the weights torch\.float32: .*x\.float\(\)"):
        encoder(**stays | {"x": stays["x"].double()})
    assert copy.deepcopy(encoder).double()(**stays | {"x": stays["x"].double()}).dtype == torch.float64
