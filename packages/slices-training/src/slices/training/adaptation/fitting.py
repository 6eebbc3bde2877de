"""From a module and its data to the checkpoint that is tested: trained, averaged or solved."""

from __future__ import annotations

import logging
from pathlib import Path

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from slices.training.adaptation.averaging import average_checkpoints
from slices.training.adaptation.config import FineTuningConfig
from slices.training.adaptation.solved_probe import check_solvable, solve_head
from slices.training.data.datamodule import StayDataModule
from slices.training.errors import UserError
from slices.training.finetuning import FineTuneModule

log = logging.getLogger(__name__)


class Fitting:
    """The callbacks that a trainer needs for a way to adapt, and ``fit``.

    Epochs are judged by the validation split: AUROC, or the loss of regressions and survival tasks.

    Args:
        module: what is adapted.
        training: how.
        folder: for checkpoints: the newest (``last.ckpt``) and the best.

    Raises:
        UserError: a head that cannot be solved.
    """

    def __init__(self, module: FineTuneModule, training: FineTuningConfig, folder: Path) -> None:
        self.module, self.training, self.folder = module, training, folder
        by_loss = module.config.task.task_type in ("regression", "survival")
        self.monitor, mode = ("val/loss", "min") if by_loss else ("val/auroc", "max")
        if training.solve_head:
            check_solvable(module.config.task, module.head.config)
        n_best = training.average_best or 1
        name = "best" if n_best == 1 else "best-{epoch}"
        self.best = ModelCheckpoint(
            folder, name, monitor=self.monitor, mode=mode, save_top_k=n_best, enable_version_counter=False
        )
        newest = ModelCheckpoint(folder, "last", enable_version_counter=False)  # to resume from
        self.callbacks: list[Callback] = [self.best, newest]
        if training.patience is not None:
            stopping = EarlyStopping(self.monitor, mode=mode, patience=training.patience, check_finite=False)
            self.callbacks.append(stopping)

    def fit(
        self, trainer: Trainer, datamodule: StayDataModule, resume_from: Path | None = None
    ) -> tuple[str, float]:
        """The checkpoint to test, and its validation score."""
        if self.training.solve_head:
            return self._solve(trainer, datamodule)
        trainer.fit(self.module, datamodule=datamodule, ckpt_path=resume_from, weights_only=True)
        if self.training.average_best is None:
            assert self.best.best_model_score is not None
            return self.best.best_model_path, float(self.best.best_model_score)
        return self._average(trainer, datamodule)

    def _average(self, trainer: Trainer, datamodule: StayDataModule) -> tuple[str, float]:
        scores = {path: float(score) for path, score in self.best.best_k_models.items()}
        target = self.folder / "average.ckpt"
        if trainer.is_global_zero:
            average_checkpoints(sorted(scores), target)
        trainer.strategy.barrier()
        score = self._validated(trainer, datamodule, str(target))
        found = ", ".join(f"{value:.4f}" for value in sorted(scores.values(), reverse=True))
        log.info(
            "weights of %d epochs averaged: %s %.4f (of each: %s)", len(scores), self.monitor, score, found
        )
        return str(target), score

    def _solve(self, trainer: Trainer, datamodule: StayDataModule) -> tuple[str, float]:
        if trainer.world_size > 1:
            raise UserError("training.solve_head works on one device: use trainer.devices=1")
        solve_head(self.module.to(trainer.strategy.root_device), datamodule)
        target = str(self.folder / "best.ckpt")
        score = self._validated(trainer, datamodule, None)
        trainer.save_checkpoint(target)
        return target, score

    def _validated(self, trainer: Trainer, datamodule: StayDataModule, path: str | None) -> float:
        (scores,) = trainer.validate(
            self.module, datamodule=datamodule, ckpt_path=path, weights_only=True, verbose=False
        )
        return float(scores[self.monitor])
