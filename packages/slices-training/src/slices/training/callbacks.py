"""What is said while training goes on."""

from __future__ import annotations

import logging
import time

from lightning.pytorch import Callback, LightningModule, Trainer

log = logging.getLogger(__name__)
SHOWN = ("train/loss", "val/loss", "val/auroc", "val/auprc", "embedding/rank", "probe/auroc")


class Begun(Callback):
    """Has a run begun to train, or ended? Before, it takes over the states of what it goes on from."""

    yes = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.yes = True

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.yes = True  # also where there was nothing left to train


class EpochLine(Callback):
    """One plain line an epoch, where there is no terminal for a progress bar."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = time.perf_counter()  # an epoch that is resumed in its middle has no start

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = trainer.callback_metrics  # on every rank: looking at them averages over ranks
        if not trainer.is_global_zero:
            return
        shown = {name: float(value) for name, value in metrics.items() if name in SHOWN}
        numbers = "  ".join(f"{name} {value:.4f}" for name, value in sorted(shown.items()))
        seconds = time.perf_counter() - self._began
        log.info("epoch %d/%s  %s  %.1f s", trainer.current_epoch + 1, trainer.max_epochs, numbers, seconds)
