"""Ranks that end together: where one ends alone, the others wait for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import torch.distributed as dist
from lightning.pytorch import Trainer

from slices.training.checkpoint_io import NotWritten
from slices.training.errors import FailedRun


@contextmanager
def writing_together(trainer: Trainer) -> Iterator[None]:
    """Within it some ranks write a checkpoint, and then all meet, as in ``Trainer.save_checkpoint``.

    Raises:
        FailedRun: a rank cannot write; on rank 0, while the other ranks exit.
    """
    failed = []
    try:
        yield
    except NotWritten as error:
        failed.append(str(error))
        trainer.strategy.barrier("Trainer.save_checkpoint")  # where the others are
    if found := of_all_ranks(trainer, failed):
        end_together(trainer, "; ".join(found))


def of_all_ranks(trainer: Trainer, found: list[str]) -> list[str]:
    """What each rank found, with its number where there are several. To be called on every rank."""
    if trainer.world_size == 1:
        return found
    of_ranks: list[list[str]] = [[]] * trainer.world_size
    dist.all_gather_object(of_ranks, found)
    return [f"rank {rank}, {text}" for rank, texts in enumerate(of_ranks) for text in texts]


def end_together(trainer: Trainer, message: str) -> NoReturn:
    """Raises ``FailedRun`` on rank 0, the other ranks exit. To be called on every rank."""
    trainer.strategy.barrier("ending")
    if not trainer.is_global_zero:
        raise SystemExit(0)  # Lightning kills rank 0 where another rank ends with an error
    raise FailedRun(message)
