"""The checkpoint that a run goes on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from slices.training.checkpoint_io import LAST
from slices.training.errors import FailedRun
from slices.training.together import writing_together


class Newest(Checkpoint):
    """Keeps the newest checkpoint: one after each epoch, or each ``every_n_steps`` optimizer steps.

    That of an epoch is written when the epoch is done, validated and logged: whoever goes on from it has
    missed nothing. So is one that is due with an epoch's last step. (Of a run that is killed between a step's
    checkpoint and its line in the log, that line is missing.)

    Args:
        folder: where ``last.ckpt`` is written.
        every_n_steps: None: after each epoch.
    """

    def __init__(self, folder: Path, every_n_steps: int | None = None) -> None:
        self.path, self.every_n_steps = folder / LAST, every_n_steps
        self._is_due, self._step = False, 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raises ``FailedRun`` where the ranks would not all go on from the same step, each with its own."""
        path, step = trainer.ckpt_path, -1
        if path is not None:
            step = int(torch.load(path, map_location="cpu", mmap=True, weights_only=True)["global_step"])
        mine = torch.tensor(step, device=trainer.strategy.root_device)
        steps = trainer.strategy.all_gather(mine).flatten().tolist()
        if len(set(steps)) > 1:
            raise FailedRun(
                f"the ranks would go on from different steps, {steps} (-1: the beginning): they must all see "
                "the same folder, with the same checkpoints"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._is_due, self._step = False, trainer.global_step
        if trainer.fit_loop.restarted_on_epoch_start:  # or the loop takes the last epoch's end for this one's
            trainer.fit_loop.restarting = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        before, self._step = self._step, trainer.global_step
        if self.every_n_steps is None or self._step == before:  # accumulated gradients are not saved
            return
        self._is_due |= self._step % self.every_n_steps == 0
        if self._is_due and not trainer.is_last_batch:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._is_due |= self.every_n_steps is None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._is_due:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        self._is_due = False
        with writing_together(trainer):
            trainer.save_checkpoint(self.path)
