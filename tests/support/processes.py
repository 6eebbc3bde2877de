"""Other processes: which there are, and waiting for them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    gone = (["Z"], [])  # one that ended may wait to be noticed
    return not Path("/proc").exists() or _stat(pid)[:1] not in gone


def children(pid: int) -> set[int]:
    """Processes that this one started and that run; needs ``/proc``."""
    others = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return {other for other in others if _stat(other)[1:2] == [str(pid)] and is_running(other)}


def _stat(pid: int) -> list[str]:
    """State, parent and the rest; nothing of one that is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()
