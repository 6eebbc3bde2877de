"""A throw-away interpreter that sees only chosen distributions of the running one, plus freshly built wheels.

Nothing is downloaded or copied: what torch needs is symlinked, so this takes about a second.
"""

from __future__ import annotations

import importlib.metadata as md
import os
import subprocess
import sys
import venv
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(*roots: str) -> dict[str, md.Distribution]:
    """The installed distributions that ``roots`` need, transitively."""
    found: dict[str, md.Distribution] = {}
    todo = [Requirement(root) for root in roots]
    while todo:
        name = canonicalize_name(todo.pop().name)
        if name in found:
            continue
        found[name] = md.distribution(name)
        needed = map(Requirement, found[name].requires or [])
        todo += [child for child in needed if child.marker is None or child.marker.evaluate({"extra": ""})]
    return found


def isolated_python(where: Path, third_party: list[str], wheels: list[Path]) -> Path:
    """The interpreter of a new environment with ``third_party`` (and what they need) and ``wheels``."""
    venv.EnvBuilder(with_pip=False, symlinks=True).create(where)
    site = next(where.glob("lib/python*/site-packages"))
    for distribution in closure(*third_party).values():
        base = Path(str(distribution.locate_file("")))
        for top in {Path(file).parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            if not (site / top).exists():
                os.symlink(base / top, site / top)
    python = where / "bin" / "python"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*pip, *map(str, wheels)], check=True)
    return python
