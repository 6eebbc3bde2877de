"""Encoders go through ``torch.compile`` without a break and through ``torch.export`` with free sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.export import Dim

from slices.encoders import ENCODER_CONFIG_REGISTRY, BaseEncoder, build_encoder, list_encoders
from slices.encoders.config import PoolingName

Stays = dict[str, Tensor]


def cases(*few: str) -> list[Any]:
    """Every encoder with every pooling; in a quick run these encoders without, and with each pooling one."""
    every = [
        (name, {"pooling": pooling})
        for name in list_encoders()
        for pooling in get_args(PoolingName)
        if pooling not in ENCODER_CONFIG_REGISTRY.find(name).refused_poolings
    ]
    every += [("transformer", {"pooling": pooling, "causal": True}) for pooling in ("none", "mean", "last")]
    every += [("gru", {"pooling": "last", "n_layers": 2})]
    quick = [
        case for case in every if case[0] == "linear" or (case[0] in few and case[1]["pooling"] == "none")
    ]
    slow = [pytest.param(*case, marks=pytest.mark.slow) for case in every if case not in quick]
    return quick + slow


@pytest.fixture(autouse=True)
def recurrence_allowed() -> Iterator[None]:
    with torch._dynamo.config.patch(allow_rnn=True):
        yield
    torch._dynamo.reset()


def build(name: str, options: dict[str, Any]) -> BaseEncoder:
    return build_encoder(name, {"d_input": 5, "d_model": 8, "static_columns": (0,), **options}).eval()


@pytest.mark.parametrize(("name", "options"), cases("gru_d", "observation_transformer"))
def test_compiles_whole(name: str, options: dict[str, Any], make_stays: Callable[..., Stays]) -> None:
    encoder, stays = build(name, options), make_stays()
    compiled = torch.compile(encoder, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(**stays), encoder(**stays))


TRAINED = [
    pytest.param(name, marks=[] if name == "linear" else pytest.mark.slow)
    for name in list_encoders()
    if name != "lstm"  # torch saves something for its gradient that its own compiler does not take
]


@pytest.mark.parametrize("name", TRAINED)
def test_trains_compiled(name: str, make_stays: Callable[..., Stays]) -> None:
    encoder, stays = build(name, {"dropout": 0.0}).train(), make_stays()
    compiled = torch.compile(encoder, fullgraph=True, backend="aot_eager")

    def gradients(forward: Callable[..., Tensor]) -> list[Tensor | None]:
        encoder.zero_grad()
        forward(**stays).square().sum().backward()
        return [parameter.grad for parameter in encoder.parameters()]

    for found, wanted in zip(gradients(compiled), gradients(encoder), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-3)


# nn.GRU and nn.LSTM keep a list of their weights, which torch.export remarks upon and handles.
@pytest.mark.filterwarnings("ignore:The tensor attributes self.rnn._flat_weights")
@pytest.mark.parametrize(("name", "options"), cases())
def test_exports_with_free_sizes(
    name: str, options: dict[str, Any], make_stays: Callable[..., Stays]
) -> None:
    encoder, stays = build(name, options), make_stays()
    fixed = bool(encoder.static_length)
    free = {0: Dim("batch")} if fixed else {0: Dim("batch"), 1: Dim("time")}
    exported = torch.export.export(encoder, (), stays, dynamic_shapes=dict.fromkeys(stays, free)).module()
    others = make_stays(b=7, t=6 if fixed else 11, seed=1)
    torch.testing.assert_close(exported(**others), encoder(**others))
