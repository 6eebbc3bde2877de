"""A run leaves its report; that it cannot never loses the run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from slices.encoders.files import brief
from slices.training.apps.ranks import is_rank_zero
from slices.training.errors import FailedRun
from slices.training.report.page import Page, write_page
from slices.training.report.style import styled

log = logging.getLogger(__name__)


@contextmanager
def leaving_report(folder: Path, page_of_run: Callable[[], Page]) -> Iterator[None]:
    """After it, and after a run that failed in a way of its own, there is a report; see ``leave_report``."""
    try:
        yield
    except FailedRun:
        leave_report(folder, page_of_run)
        raise
    leave_report(folder, page_of_run)


def leave_report(folder: Path, page_of_run: Callable[[], Page]) -> None:
    """Writes the page in a folder and says where it is, or why there is none. Rank 0 alone does."""
    if not is_rank_zero():
        return
    if find_spec("matplotlib") is None:
        log.info("no report: matplotlib is not installed: pip install 'slices-training[report]'")
        return
    try:
        with styled():
            path = write_page(page_of_run(), folder)
    except Exception as error:  # the run itself is done and written
        log.warning("no report of this run (%s: %s)", type(error).__name__, brief(error))
        return
    log.info("report: %s", path)
