"""A folder for each run, and one run at a time in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig

from slices.training.apps.ranks import is_rank_zero
from slices.training.errors import UserError


@contextmanager
def alone_in_folder() -> Iterator[None]:
    """Within it no other run may begin, or go on, in the folder of this one; a process that ends leaves it.

    An app that has none of its own, but writes where it is started, is not kept from anything.

    Raises:
        UserError: another run is at work there.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    if folder == Path.cwd() or not is_rank_zero():  # which is here for all
        yield
        return
    lock = FileLock(folder / ".run.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"another run is at work in {folder}: wait until it has ended, or give another hydra.run.dir"
        ) from error
    try:
        yield
    finally:
        lock.release()


def set_aside(checkpoints: Path) -> None:
    """Those of a run that was here before go under another name: nobody takes them for this run's."""
    if any(checkpoints.glob("*.ckpt")):
        taken = (checkpoints.with_name(f"{checkpoints.name}-{i}") for i in count(1))
        checkpoints.rename(next(folder for folder in taken if not folder.exists()))


def refuse_other_run(folder: Path, checkpoints: Path) -> None:
    """Raises ``ValueError`` where a new run would write over the checkpoints of one that was here before."""
    if any(checkpoints.glob("*.ckpt")):
        raise ValueError(
            f"there is a run in {folder} already: go on with it by resume={folder}, or give another "
            "hydra.run.dir"
        )
