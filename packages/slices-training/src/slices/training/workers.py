"""Processes that work side by side."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager


@contextmanager
def workers(jobs: int, tasks_each: int | None = None) -> Iterator[ProcessPoolExecutor]:
    """``jobs`` processes, new ones after ``tasks_each`` tasks.

    They end with this one, however it ends; after an error nothing more is begun.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        jobs, spawn, initializer=_end_with, initargs=(os.getpid(),), max_tasks_per_child=tasks_each
    ) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _end_with(parent: int) -> None:
    """Ends this process when its parent ends: nobody would take what it writes."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
