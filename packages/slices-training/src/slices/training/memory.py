"""How much memory there is, how much this process has taken, and what it cannot hold."""

from __future__ import annotations

import math
import os
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slices.training.errors import UserError

STATUS = Path("/proc/self/status")
HELD = 4  # times its weights a model takes in training: gradients and Adam's two moments beside them
NO_ROOM = (  # of torch
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "Storage size calculation overflowed",
)
LESS = (
    "a smaller encoder (encoder.d_model, encoder.n_layers), fewer stays a step (training.batch_size), wider "
    "bins (data.resolution) or training.activation_checkpointing=true take less"
)


def physical_memory() -> float:
    """Bytes of memory that this machine has; infinity where it does not say."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return math.inf


@contextmanager
def models_that_fit() -> Iterator[None]:
    """Within it, weights are refused as they are made once this machine could not hold them.

    Some of them may be gone by then, as those of a file are once they are copied: whether what is trained
    fits, ``require_room`` tells.

    Raises:
        UserError: before the memory is taken: the system would end the process without a word.
    """
    from torch.nn.modules.module import register_module_parameter_registration_hook

    made = 0

    def add(module: Any, name: str, parameter: Any) -> None:
        nonlocal made
        made += 0 if parameter is None or parameter.is_meta else parameter.nbytes
        _refuse_beyond_half(made)

    hook = register_module_parameter_registration_hook(add)
    try:
        yield
    finally:
        hook.remove()


def require_room(model: Any) -> None:
    """Raises ``UserError`` for a model that this machine could not hold while it is trained."""
    import torch

    held = 1 if torch.cuda.is_available() else HELD  # the rest is then on the GPU
    weights = model.parameters()
    _refuse_beyond_half(sum(weight.nbytes * (held if weight.requires_grad else 1) for weight in weights))


def _refuse_beyond_half(taken: int) -> None:
    most = physical_memory() / 2  # the other half for activations, and a checkpoint beside it
    if taken > most:
        raise UserError(
            f"with what training keeps beside it the model takes more than {most / 1e9:.0f} GB, half of this "
            f"machine's memory: {LESS}"
        )


@contextmanager
def told_of_memory(kind: type[Exception]) -> Iterator[None]:
    """Within it, an error of a library that says that memory ran out becomes one of this kind."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        said = str(error).partition("\n")[0] or "MemoryError"
        if not (isinstance(error, MemoryError) or any(words in said for words in NO_ROOM)):
            raise
        raise kind(f"there is not enough memory ({said}): {LESS}") from error


def peak_memory() -> int:
    """Bytes that this process took at most, those of the one that started it not counted."""
    if STATUS.exists():  # on Linux rusage would begin with what the parent had
        found = re.search(r"VmHWM:\s*(\d+) kB", STATUS.read_text())
        if found:
            return int(found[1]) * 1024
    return resident_by_rusage(resource.RUSAGE_SELF)


def most_memory() -> float:
    """GB that were taken at most: of the GPU, where one was used, or else of the machine by this process."""
    import torch  # which would itself be much of what a process has taken

    on_gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return (on_gpu or peak_memory()) / 1e9


def resident_by_rusage(who: int) -> int:
    """Bytes at most, as the system accounts for a process or for its largest child (``RUSAGE_CHILDREN``)."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    return resource.getrusage(who).ru_maxrss * unit
