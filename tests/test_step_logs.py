"""What is logged of single steps, and of an epoch for those who look when it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
from omegaconf import DictConfig

from quick import data_for, trainer_for
from slices.training import SSLPretrainModule


def test_losses_are_those_of_the_steps_however_many_are_accumulated(
    tiny: dict[str, Any], pretrain_config: DictConfig, tmp_path: Path
) -> None:
    """And a callback finds the mean of an epoch when that ends."""
    given: list[tuple[float, int]] = []  # loss and stays of each step
    seen: list[tuple[float, float]] = []

    class Seen(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            metrics = trainer.callback_metrics
            seen.append((metrics["train/loss"].item(), metrics["train/loss_step"].item()))

    module = SSLPretrainModule(pretrain_config)
    module.objective.register_forward_hook(
        lambda _, inputs, outputs: given.append((outputs[0].item(), len(inputs[0])))
    )
    trainer = trainer_for(
        tmp_path,
        max_epochs=2,
        limit_train_batches=3,
        limit_val_batches=0,
        accumulate_grad_batches=2,
        log_every_n_steps=1,
        callbacks=[Seen()],
    )
    trainer.fit(module, datamodule=data_for(tiny))
    expected = []
    for losses, sizes in (zip(*of_epoch, strict=True) for of_epoch in (given[:3], given[3:])):
        expected.append((np.average(losses, weights=sizes), losses[-1]))
    assert seen == [pytest.approx(pair) for pair in expected]
