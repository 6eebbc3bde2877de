"""The apps as commands: what there are, by their files' first lines, and how one is started."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

FOLDER = Path(__file__).resolve().parents[1] / "apps"


def app_lines() -> dict[str, str]:
    """Of each app what it makes, without importing it.

    >>> app_lines()["describe"]
    'what is in a dataset, as text and as a page'
    """
    lines = {}
    for path in sorted(FOLDER.glob("*.py")):
        with path.open(encoding="utf-8") as file:
            if found := re.match(r'"""``slices-(\w+)``: (.+)\.', file.readline()):
                lines[found[1]] = found[2]
    return lines


def become(app: str, words: Sequence[str]) -> NoReturn:
    """Goes on as ``slices-<app>``, in this process.

    It is not called as a function: other ranks and jobs are started by the command line of this one.
    """
    sys.stdout.flush()
    # -P: as with a console script, the folder that one is in is not where modules are looked for
    os.execv(sys.executable, [sys.executable, "-P", "-m", f"slices.training.apps.{app}", *words])
