"""States of an optimizer that are loaded are those of its parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim import Optimizer

from slices.training.optim import AdamConfig, AdamWConfig, OptimizerConfig, SGDConfig, optimizer_and_schedule


def stepped(config: OptimizerConfig) -> Optimizer:
    module: Any = torch.nn.Linear(3, 2)
    built: Any = optimizer_and_schedule(module, config, None)
    module(torch.ones(1, 3)).sum().backward()
    built.step()
    return built


@pytest.mark.parametrize("config", [AdamConfig(), AdamWConfig(), SGDConfig(), SGDConfig(momentum=0.0)])
def test_states_that_it_had_are_loaded(config: OptimizerConfig) -> None:
    one, other = stepped(config), stepped(config)
    other.load_state_dict(one.state_dict())
    other.step()


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        (AdamWConfig(), "exp_avg", torch.zeros(3)),
        (AdamWConfig(), "exp_avg_sq", 1.0),
        (AdamWConfig(), "step", torch.zeros(3)),
        (SGDConfig(), "momentum_buffer", torch.zeros(())),
    ],
)
def test_states_of_another_shape_are_refused_by_name(config: OptimizerConfig, name: str, value: Any) -> None:
    optimizer = stepped(config)
    state = optimizer.state_dict()
    state["state"][0][name] = value
    with pytest.raises(ValueError, match=rf"optimizer_states {name} of weight is .*wanted"):
        optimizer.load_state_dict(state)


@pytest.mark.parametrize("kind", ["step", "exp_avg", "exp_avg_sq"])
def test_states_that_are_not_whole_are_refused_by_name(kind: str) -> None:
    optimizer = stepped(AdamWConfig())
    state = optimizer.state_dict()
    del state["state"][0][kind]
    with pytest.raises(ValueError, match=f"optimizer_states lack {kind} of parameter 0"):
        optimizer.load_state_dict(state)
