"""Processes of a run: which one this is, and runs of a sweep, each of which may start several.

A rank is one of the processes that train together; rank 0 speaks for all.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch.distributed as dist
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, read_write

from slices.training.errors import FailedRun, UserError

log = logging.getLogger(__name__)
PATIENCE = 30.0  # seconds that ranks have to end by themselves
STARTED_BY_LIGHTNING = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")


def is_rank_zero() -> bool:
    """Before there is a trainer, too: by the environment, where whoever started the ranks wrote it."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def only_rank_zero_speaks() -> None:
    """What was decided is said once, and not once a rank."""
    if not is_rank_zero():
        logging.getLogger().setLevel(logging.WARNING)


def in_a_sweep() -> bool:
    """Is this one of the runs of ``--multirun``?"""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def sweep_direction() -> str | None:
    """``minimize`` or ``maximize``, in a run of a sweep whose sweeper goes by what runs return."""
    direction = HydraConfig.get().sweeper.get("direction") if in_a_sweep() else None
    return None if direction is None else str(getattr(direction, "name", direction))


def check_direction(score: str, mode: str) -> None:
    """Raises ``UserError`` in a sweep that looks for the worst run. ``mode``: ``min`` or ``max`` is good."""
    direction = sweep_direction()
    if direction is not None and not direction.startswith(mode):
        raise UserError(
            f"hydra.sweeper.direction={direction}: the sweep goes by {score}, of which the {mode}imum is "
            f"best: use hydra.sweeper.direction={mode}imize"
        )


@contextmanager
def as_if_alone() -> Iterator[None]:
    """Within it, a run of a sweep is as if it were the only one; other runs are left as they are.

    Lightning starts the other ranks by this process's command line. That is the whole sweep's: they would
    each sweep, wait for each other in runs that need not be the same, and never end. So it is this run's for
    the time being, and what tells the ranks from each other is gone again before the next run.

    Raises:
        UserError: the processes were started from outside, so that each would sweep for itself.
    """
    if not in_a_sweep():
        yield
        return
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise UserError(
            "torchrun starts the ranks of one run, not of a sweep: leave torchrun out, and Lightning starts "
            "trainer.devices of them for each run"
        )
    hydra, command = HydraConfig.get(), sys.argv
    before = {name: os.environ.get(name) for name in STARTED_BY_LIGHTNING}
    with read_write(cast(DictConfig, hydra)):
        hydra.run.dir = hydra.runtime.output_dir
    sys.argv = [command[0], *hydra.overrides.task, "hydra.mode=RUN"]
    try:
        yield
    except (UserError, FailedRun) as error:  # said at once, though other runs may follow
        log.error("%s", error)
        raise
    finally:
        sys.argv = command
        if before["LOCAL_RANK"] is None:
            _forget_ranks()
            os.environ |= {name: value for name, value in before.items() if value is not None}


def _forget_ranks() -> None:
    """Ends this run's other ranks, and what would kill this process too if one of them failed."""
    for thread in threading.enumerate():
        if isinstance(thread, _ChildProcessObserver):
            for child in thread._child_processes:
                _end(child)
            thread._child_processes.clear()
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
    for name in STARTED_BY_LIGHTNING:
        os.environ.pop(name, None)


def _end(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
