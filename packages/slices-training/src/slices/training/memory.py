"""How much memory this process has taken."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


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
