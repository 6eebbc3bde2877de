"""``training.compile``: the same weights from one program, though its operations are counted first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import nn

from quick import data_for, trainer_for
from slices.training import FineTuneModule, SSLPretrainModule
from slices.training.budget import Budget

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's compiler


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The modes that were asked for; the graphs run as they are, as a processor's code would take minutes."""
    modes: list[str] = []
    original = nn.Module.compile

    def compiled(module: nn.Module, mode: str) -> None:
        modes.append(mode)
        original(module, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", compiled)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield modes
    torch._dynamo.reset()


@pytest.mark.slow
def test_pretraining(
    asked: list[str], pretrain_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    weights = []
    for mode in (None, "reduce-overhead"):
        pretrain_config.encoder.dropout = 0.0
        pretrain_config.training.compile = mode
        torch.manual_seed(0)
        module, budget = SSLPretrainModule(pretrain_config), Budget()
        trainer_for(tmp_path, max_epochs=2, callbacks=[budget]).fit(module, datamodule=data_for(tiny))
        weights.append(module.state_dict())
        assert budget.flops > 0
    assert asked == ["reduce-overhead"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_fine_tuning(
    asked: list[str], finetune_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    finetune_config.training = {"compile": "default", "freeze_encoder": False}
    finetune_config.checkpoint_path = None
    finetune_config.encoder = {"name": "gru", "d_input": None, "d_model": 8}
    finetune_config.data = tiny
    module = FineTuneModule(finetune_config)
    data = data_for(tiny, module.config.task.task_name, per_step=module.config.task.per_step)
    trainer_for(tmp_path).fit(module, datamodule=data)
    assert asked == ["default"] and torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
