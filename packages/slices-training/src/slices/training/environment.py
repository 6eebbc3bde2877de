"""What a result depends on besides its config and its data: versions, the state of the code, the machine."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from slices.training.card import PACKAGES
from slices.training.memory import physical_memory

CPUINFO = Path("/proc/cpuinfo")


def environment() -> dict[str, Any]:
    """All of it as plain values, and nothing that names the machine or its user."""
    versions = {name: version(name) for name in (*PACKAGES, "hydra-core", "numpy", "polars")}
    return {
        "versions": {"python": platform.python_version()} | versions,
        "git": {"slices": git_state(Path(__file__).parent), "folder": commit_of(Path.cwd())},
        "platform": platform.platform(),
        "hardware": hardware(),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of the checkout that a folder lies in, and whether tracked files differ from it.

    None where there is no checkout, no commit or no git. For checkouts that are trusted: to compare files git
    runs what their settings name.
    """
    if (commit := commit_of(folder)) is None:
        return None
    return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "-uno"))}


def commit_of(folder: Path) -> str | None:
    """The commit of any checkout that a folder lies in."""
    try:
        return _git(folder, "rev-parse", "HEAD").strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str) -> str:
    command = ("git", "--no-optional-locks", "-C", str(folder), *words)
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def hardware() -> dict[str, Any]:
    """Processor, memory, and the GPUs that there are."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "cpu": _cpu(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(physical_memory() / 1e9, 1),
        "gpus": gpus,
        "cuda": torch.version.cuda if gpus else None,
    }


def _cpu() -> str:
    """Its model as Linux names it; elsewhere what Python knows of it."""
    found = re.search(r"model name\s*:\s*(.+)", CPUINFO.read_text()) if CPUINFO.exists() else None
    return found[1] if found else platform.processor() or platform.machine()
