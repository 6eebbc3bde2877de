"""What a run says it will cost, and did; that saying so changes nothing."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from omegaconf import DictConfig
from torch import nn
from torch.nn import functional as F

from quick import data_for, trainer_for
from slices.encoders import build_encoder, list_encoders
from slices.training import SSLPretrainModule
from slices.training.budget import Budget, counting


def test_operations_of_attention_are_counted_on_a_processor() -> None:
    b, h, n, m, d = 2, 3, 5, 7, 8
    query, key, value = torch.randn(b, h, n, d), torch.randn(b, h, m, d), torch.randn(b, h, m, d)
    with counting() as counter:
        F.scaled_dot_product_attention(query, key, value)
    assert counter.get_total_flops() == 2 * 2 * b * h * n * m * d


@pytest.mark.parametrize(("kind", "gates"), [(nn.GRU, 3), (nn.LSTM, 4)])
def test_operations_of_recurrent_nets_are_counted(kind: type[nn.GRU | nn.LSTM], gates: int) -> None:
    net, x = kind(5, 8, num_layers=2, batch_first=True), torch.randn(3, 7, 5)
    with counting() as counter:
        net(x)
    first, second = gates * 8 * (5 + 8), gates * 8 * (8 + 8)
    assert counter.get_total_flops() == 2 * 3 * 7 * (first + second)


@pytest.mark.parametrize("name", list_encoders())
def test_twice_the_stays_are_twice_the_operations(name: str) -> None:
    encoder = build_encoder(name, {"d_input": 5, "d_model": 16, "dropout": 0.0})
    counts = []
    for n in (4, 8):
        x = torch.randn(n, 12, 5)
        with counting() as counter:
            encoder(x, torch.ones_like(x, dtype=torch.bool)).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] > 0 and counts[1] == pytest.approx(2 * counts[0], rel=0.1)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_says_what_it_will_cost_and_did(
    accumulate: int,
    pretrain_config: DictConfig,
    tiny: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    module, data = SSLPretrainModule(pretrain_config), data_for(tiny)
    budget = Budget(seconds=0.0)
    options = {"max_epochs": 3, "accumulate_grad_batches": accumulate, "callbacks": [budget]}
    trainer = trainer_for(tmp_path, **options)
    with caplog.at_level(logging.INFO, logger="slices"):
        trainer.fit(module, datamodule=data)
    said = [record.getMessage() for record in caplog.records if record.name.endswith("budget")]
    steps = 3 * len(data.train_dataloader())
    assert len(said) == 2
    assert said[0].startswith("a step: ") and f"{steps - 3:,} more: about" in said[0]
    assert said[1].startswith(f"trained: {steps:,} steps in ")
    assert budget.flops > 0


def test_a_run_that_ends_in_its_first_step_counts_no_further(
    pretrain_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    module, budget = SSLPretrainModule(pretrain_config), Budget()

    class Fails(L.Callback):
        def on_before_backward(self, *args: Any) -> None:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        trainer_for(tmp_path, callbacks=[budget, Fails()]).fit(module, datamodule=data_for(tiny))
    before = budget.flops
    _ = torch.ones(8, 8) @ torch.ones(8, 8)
    assert budget.flops == before and not torch.utils._python_dispatch._get_current_dispatch_mode()


def test_it_changes_no_weight(pretrain_config: DictConfig, tiny: dict[str, Any], tmp_path: Path) -> None:
    weights = []
    for callbacks in ([], [Budget(seconds=0.0)]):
        torch.manual_seed(0)
        module = SSLPretrainModule(pretrain_config)
        trainer_for(tmp_path, max_epochs=2, callbacks=callbacks).fit(module, datamodule=data_for(tiny))
        weights.append(module.state_dict())
    for first, second in zip(*(state.values() for state in weights), strict=True):
        assert torch.equal(first, second)


@pytest.mark.slow
def test_a_time_limit_ends_a_run_with_an_encoder_and_a_model(
    on_tiny: list[str], tmp_path: Path, cli: CommandLine
) -> None:
    small = ["encoder=gru", "encoder.d_model=8"]
    limit, at_length = "+trainer.max_time={seconds: 2}", ["training.max_epochs=100000"]
    done = cli("pretrain", *on_tiny, *small, *at_length, limit, "hydra.run.dir=pretrained")
    assert done.status == 0, done.err
    done = cli(
        "finetune",
        *on_tiny,
        *at_length,
        "training.patience=null",
        limit,
        "hydra.run.dir=tuned",
    )
    assert done.status == 0, done.err
    assert all((tmp_path / "pretrained" / name).is_file() for name in ("encoder.pt", "checkpoints/last.ckpt"))
    assert (tmp_path / "tuned" / "model.safetensors").is_file()
