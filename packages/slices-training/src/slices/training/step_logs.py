"""What is logged of steps: of those that Lightning hands on, and of the first, for the progress bar."""

from __future__ import annotations

import lightning.pytorch as L

from slices.training.epoch_means import EpochMeans


def log_rate(module: L.LightningModule, batch_idx: int) -> None:
    """Logs the learning rate of the step to come, where there is a schedule."""
    if module.trainer.lr_scheduler_configs and _is_shown(module.trainer, batch_idx):
        module.log("lr", module.trainer.optimizers[0].param_groups[0]["lr"])


def log_loss(module: L.LightningModule, means: EpochMeans, batch_idx: int) -> None:
    """Logs the loss of the step that was, and after an epoch's last the means of all."""
    if _is_shown(module.trainer, batch_idx):
        module.log("train/loss_step", means.last["train/loss"], prog_bar=True)
    if module.trainer.is_last_batch:  # callbacks look at them before the module's epoch ends
        means.log(module)


def _is_shown(trainer: L.Trainer, batch_idx: int) -> bool:
    return batch_idx == 0 or trainer._logger_connector.should_update_logs
