"""Rates and weight decay of single parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from slices.encoders import build_encoder, list_encoders
from slices.training import FineTuneModule
from slices.training.parameter_groups import encoder_settings

CONFIG: dict[str, Any] = {
    "encoder": {"name": "transformer", "d_input": 6, "d_model": 16, "n_layers": 3},
    "task": {"task_type": "binary", "head_type": "linear"},
    "training": {"freeze_encoder": False, "head_lr": 1e-2, "layer_decay": 0.5},
    "optimizer": {"name": "adamw", "lr": 1e-3, "weight_decay": 0.1},
}


def optimizer_of(config: dict[str, Any]) -> tuple[FineTuneModule, torch.optim.Optimizer]:
    module = FineTuneModule(config)
    optimizer = module.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Optimizer)
    return module, optimizer


def group_of(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> dict[str, Any]:
    (found,) = [g for g in optimizer.param_groups if any(p is parameter for p in g["params"])]
    return found


def test_every_parameter_is_in_one_group() -> None:
    module, optimizer = optimizer_of(CONFIG)
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in module.parameters())


def test_biases_and_norms_do_not_decay() -> None:
    module, optimizer = optimizer_of(CONFIG)
    for name, parameter in module.named_parameters():
        assert group_of(optimizer, parameter)["weight_decay"] == (0.1 if parameter.ndim > 1 else 0.0), name


def test_rates_fall_layer_by_layer_from_the_head_down() -> None:
    module, optimizer = optimizer_of(CONFIG)
    rates = {name: group_of(optimizer, p)["lr"] for name, p in module.named_parameters()}
    assert {rate for name, rate in rates.items() if name.startswith("head.")} == {1e-2}
    for block, expected in enumerate((0.25e-3, 0.5e-3, 1e-3)):
        found = {rate for name, rate in rates.items() if name.startswith(f"encoder.blocks.{block}.")}
        assert found == {expected}
    assert {rate for name, rate in rates.items() if name.startswith("encoder.embed")} == {0.125e-3}


@pytest.mark.parametrize("name", list_encoders())
def test_the_layers_of_an_encoder_hold_parameters(name: str) -> None:
    encoder = build_encoder(name, {"d_input": 5, "n_layers": 1 if name in ("linear", "gru_d") else 2})
    rates = {setting.lr for _, setting in encoder_settings(encoder, 1.0, 0.5)}
    assert rates == {0.5**above for above in range(max(1, len(encoder.layer_patterns)))}


def test_an_encoder_without_layers_says_so(caplog: pytest.LogCaptureFixture) -> None:
    settings = encoder_settings(build_encoder("linear", {"d_input": 5}), 1.0, 0.5)
    assert {setting.lr for _, setting in settings} == {1.0} and "states no layers" in caplog.text


@pytest.mark.parametrize(("option", "value"), [("layer_decay", 0.0), ("layer_decay", 1.5), ("head_lr", 0.0)])
def test_rates_that_cannot_be(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=option):
        FineTuneModule(CONFIG | {"training": CONFIG["training"] | {option: value}})
