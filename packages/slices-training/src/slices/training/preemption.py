"""A run that is asked to end saves where it is, and is queued again where a scheduler ended it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from slices.training.together import writing_together

log = logging.getLogger(__name__)
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)  # of kill, a spot machine, a container; what schedulers can be asked to send ahead of it; submitit's
STATUS = 128 + signal.SIGTERM


class Preemption(Callback):
    """On SIGTERM, SIGUSR1 or SIGUSR2, ends training after a step with a checkpoint from which it can go on.

    In a job of SLURM that was not cancelled, the job is then queued again. The exit status is 143, unless all
    was done. After the last step of an epoch it goes on, as that epoch is yet to be validated: where epochs
    have a single step, it never ends ahead of time.

    Args:
        checkpoint: what is written.
        go_on: said in the end: how to go on.
    """

    def __init__(self, checkpoint: Path, go_on: str) -> None:
        self.checkpoint, self.go_on = checkpoint, go_on
        self._asked, self._step = False, 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the place of Lightning's own handlers, until it puts back what was there before them."""
        self._asked, self._step = trainer.received_sigterm, trainer.global_step
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._asked = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        before, self._step = self._step, trainer.global_step
        if self._step == before or trainer.is_last_batch:  # gradients that are accumulated are not saved
            return
        if trainer.strategy.reduce_boolean_decision(self._asked, all=False):  # it may reach one rank alone
            self._end(trainer)

    def _end(self, trainer: Trainer) -> None:
        with writing_together(trainer):
            trainer.save_checkpoint(self.checkpoint)
        if trainer.is_global_zero:
            log.info("asked to end: step %d is in %s", trainer.global_step, self.checkpoint)
            if not _queued_again():
                log.info("to go on: %s", self.go_on)
        trainer.strategy.barrier("asked to end")
        # Lightning kills rank 0 where another rank ends with an error
        raise SystemExit(STATUS if trainer.is_global_zero else 0)


def _queued_again() -> bool:
    """Asks SLURM, where this is one of its jobs and nobody cancelled it, to run the job once more."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return False
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        if "JobState=CANCELLED" in _scontrol("show", "job", job):
            return False
        _scontrol("requeue", job)
    except (OSError, subprocess.CalledProcessError) as error:
        log.warning("SLURM did not queue job %s again: %s", job, getattr(error, "stderr", "") or error)
        return False
    log.info("job %s is queued again", job)
    return True


def _scontrol(*words: str) -> str:
    return subprocess.run(["scontrol", *words], check=True, capture_output=True, text=True).stdout
