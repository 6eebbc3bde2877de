"""Pins all that the development environment consists of, by version and hashes: ``hatch run lock:update``.

Pins that still fit are kept; ``hatch run lock:update --upgrade`` takes the newest releases.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def wanted() -> list[str]:
    """What the default environment and the packages require, but for the packages themselves."""
    lines: list[str] = tomllib.loads((ROOT / "hatch.toml").read_text())["envs"]["default"]["dependencies"]
    for path in sorted(ROOT.glob("packages/*/pyproject.toml")):
        lines += tomllib.loads(path.read_text())["project"]["dependencies"]
    return [line for line in lines if not line.startswith("slices-")]


if __name__ == "__main__":
    target = ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28"]
    target += ["--output-file", str(ROOT / "requirements" / "dev.lock")]
    shown = ["--quiet", "--no-annotate", "--custom-compile-command", "hatch run lock:update"]
    command = ["uv", "pip", "compile", "-", "--generate-hashes", *target, *shown, *sys.argv[1:]]
    subprocess.run(command, input="\n".join(wanted()), text=True, check=True)
