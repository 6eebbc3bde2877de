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

log = logging.getLogger(__name__)
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name)
)  # of kill, a spot machine, a container; and what schedulers can be asked to send ahead of it
STATUS = 128 + signal.SIGTERM
EVERY = 10  # steps after which ranks ask each other: a signal may reach one of them alone


class Preemption(Callback):
    """On SIGTERM or SIGUSR1, ends training after a step with a checkpoint from which it can go on.

    In a job of SLURM, that job is then queued again. It ends with exit status 143, unless all was done.

    Args:
        checkpoint: what is written.
        go_on: said in the end: how to go on.
    """

    def __init__(self, checkpoint: Path, go_on: str) -> None:
        self.checkpoint, self.go_on = checkpoint, go_on
        self._asked = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the place of Lightning's own handlers, until it puts back what was there before them."""
        self._asked = False
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._asked = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.world_size == 1:
            asked = self._asked
        elif trainer.fit_loop.total_batch_idx % EVERY == 0:
            asked = trainer.strategy.reduce_boolean_decision(self._asked, all=False)
        else:
            asked = False
        if asked:
            self._end(trainer)

    def _end(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.checkpoint)
        if trainer.is_global_zero:
            log.info("asked to end: step %d is in %s", trainer.global_step, self.checkpoint)
            if not _queued_again():
                log.info("to go on: %s", self.go_on)
        trainer.strategy.barrier("asked to end")  # Lightning kills all ranks once one has ended this way
        raise SystemExit(STATUS)


def _queued_again() -> bool:
    """Asks SLURM, where this is one of its jobs, to run the job once more."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return False
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        log.warning("SLURM did not queue job %s again: %s", job, getattr(error, "stderr", "") or error)
        return False
    log.info("job %s is queued again", job)
    return True
