"""From a module and its data to the checkpoint that is tested: trained, averaged or solved."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor

from slices.training.adaptation.averaging import average_checkpoints
from slices.training.adaptation.config import FineTuningConfig
from slices.training.adaptation.solved_probe import check_solvable, check_trained, solve_head
from slices.training.data.datamodule import StayDataModule
from slices.training.errors import FailedRun, UserError
from slices.training.finetuning import FineTuneModule
from slices.training.newest import Newest
from slices.training.together import writing_together

log = logging.getLogger(__name__)


class Best(ModelCheckpoint):
    """Keeps the best epochs, none of which has a score that is not finite; where it cannot, all ranks end."""

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        finite = current is not None and bool(current.isfinite())
        return finite and super().check_monitor_top_k(trainer, current)

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        with writing_together(trainer):
            super()._save_checkpoint(trainer, filepath)


class Fitting:
    """The callbacks that a trainer needs for a way to adapt, and ``fit``.

    Epochs are judged by the validation split: AUROC, or the loss of regressions and survival tasks, and where
    AUROC is not defined, which is said.

    Args:
        module: what is adapted.
        training: how.
        datamodule: to what, after its ``setup``.
        folder: for checkpoints: the newest (``last.ckpt``) and the best.

    Raises:
        UserError: a head that cannot be solved.
    """

    def __init__(
        self, module: FineTuneModule, training: FineTuningConfig, datamodule: StayDataModule, folder: Path
    ) -> None:
        self.module, self.training, self.datamodule, self.folder = module, training, datamodule, folder
        by_loss = module.config.task.task_type in ("regression", "survival") or _one_class(module, datamodule)
        self.monitor, mode = ("val/loss", "min") if by_loss else ("val/auroc", "max")
        if training.solve_head:
            check_solvable(module.config.task, module.head.config)
            check_trained(module)
        n_best = training.average_best or 1
        name = "best" if n_best == 1 else "best-{epoch}"
        self.best = Best(
            folder, name, monitor=self.monitor, mode=mode, save_top_k=n_best, enable_version_counter=False
        )
        self.callbacks: list[Callback] = [self.best, Newest(folder)]
        if training.patience is not None:
            stopping = EarlyStopping(
                self.monitor, mode=mode, patience=training.patience, check_finite=False, strict=False
            )
            self.callbacks.append(stopping)

    def fit(self, trainer: Trainer, resume_from: Path | None = None) -> tuple[str, float]:
        """The checkpoint to test, and its validation score."""
        if self.training.solve_head:
            return self._solve(trainer)
        trainer.fit(self.module, datamodule=self.datamodule, ckpt_path=resume_from, weights_only=True)
        if self.best.best_model_score is None:
            raise FailedRun(
                "there is no best epoch: none was validated (allow more, as by trainer.max_steps), or in "
                f"none was {self.monitor} finite (see above)"
            )
        if self.training.average_best is None:
            return self.best.best_model_path, float(self.best.best_model_score)
        return self._average(trainer)

    def _average(self, trainer: Trainer) -> tuple[str, float]:
        scores = {path: float(score) for path, score in self.best.best_k_models.items()}
        target = self.folder / "average.ckpt"
        with writing_together(trainer):
            if trainer.is_global_zero:
                average_checkpoints(sorted(scores), target)
            trainer.strategy.barrier()
        score = self._validated(trainer, str(target))
        found = ", ".join(f"{value:.4f}" for value in sorted(scores.values(), reverse=True))
        log.info(
            "weights of %d epochs averaged: %s %.4f (of each: %s)", len(scores), self.monitor, score, found
        )
        return str(target), score

    def _solve(self, trainer: Trainer) -> tuple[str, float]:
        if trainer.world_size > 1:
            raise UserError("training.solve_head works on one device: use trainer.devices=1")
        solve_head(self.module.to(trainer.strategy.root_device), self.datamodule)
        target = str(self.folder / "best.ckpt")
        score = self._validated(trainer, None)
        trainer.save_checkpoint(target)
        return target, score

    def _validated(self, trainer: Trainer, path: str | None) -> float:
        (scores,) = trainer.validate(
            self.module, datamodule=self.datamodule, ckpt_path=path, weights_only=True, verbose=False
        )
        return float(scores[self.monitor])


def _one_class(module: FineTuneModule, datamodule: StayDataModule) -> bool:
    """Are the validation labels, or those of each label, all alike, so that there is no AUROC?"""
    label, known = datamodule.split_labels("val")
    width = label.shape[-1] if module.config.task.task_type == "multilabel" else 1
    columns, there = label.reshape(-1, width).T, known.reshape(-1, width).T
    if max(len(np.unique(column[mask])) for column, mask in zip(columns, there, strict=True)) > 1:
        return False
    log.warning(
        "the %s validation labels are all alike, so that there is no AUROC to judge epochs by: the loss "
        "does. A larger data.splits.val_fraction, or another data.splits.seed, may help",
        f"{int(there.any(0).sum()):,}",
    )
    return True
