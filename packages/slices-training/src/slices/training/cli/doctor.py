"""``slices doctor``: does everything here work, and what to do where it does not."""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement

from slices.training.cli.text import explained
from slices.training.memory import physical_memory
from slices.training.past_runs import past_runs

OURS = ("slices-encoders", "slices-ssl", "slices-heads", "slices-training")
EXTRAS = {
    "slices-encoders[hub]": "encoders to and from a hub of models",
    "slices-training[baselines]": "LightGBM and logistic regression (`slices baseline`)",
    "slices-training[mlflow]": "loggers=[mlflow]",
    "slices-training[report]": "report.html and figures of runs; `slices look`",
    "slices-training[slurm]": "hydra/launcher=submitit_slurm: sweeps on a cluster",
    "slices-training[sweep]": "hydra/sweeper=optuna: sweeps that look for the best",
    "slices-training[tensorboard]": "loggers=[tensorboard]",
    "slices-training[umap]": "`slices look map=umap`",
    "slices-training[wandb]": "loggers=[wandb]",
}
COMPILE = """
import torch
x = torch.ones(8, device="cuda" if torch.cuda.is_available() else "cpu")
torch.compile(lambda x: x.sin() + 1)(x)
"""
PATIENCE = 120.0  # seconds that compiling may take
LEAST_DISK = 1e9  # bytes


class Finding(NamedTuple):
    """What was looked at and found; with a remedy where it is wrong."""

    name: str
    found: str
    remedy: str | None = None


def add_to(commands: Any) -> None:
    parser = commands.add_parser(
        "doctor", description="does everything here work, and what to do where it does not"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    findings = [*versions(), *extras(), gpu(), compiling(), memory(), disk(), *datasets(), *earlier()]
    print(explained((finding.name, finding.found) for finding in findings))
    wrong = [finding for finding in findings if finding.remedy is not None]
    for finding in wrong:
        print(f"wrong: {finding.name}: {finding.found}\n  remedy: {finding.remedy}")
    print(f"{len(wrong)} wrong" if wrong else "all is well")
    return 1 if wrong else 0


def versions() -> Iterator[Finding]:
    """Python and packages; where one is not in our ranges, which leave out releases known to be bad."""
    yield Finding("python", platform.python_version())
    for name in (*OURS, "torch", "lightning", "hydra-core"):
        yield Finding(name, _installed(name) or "not installed")
    for line in sorted({line for package in OURS for line in requires(package) or ()}):
        wanted = Requirement(line)
        if (wanted.marker is None or wanted.marker.evaluate({"extra": ""})) and not _fits(wanted):
            found = f"{_installed(wanted.name) or 'not installed'}, wanted {wanted.specifier}"
            yield Finding(wanted.name, found, f"pip install '{wanted.name}{wanted.specifier}'")


def extras() -> Iterator[Finding]:
    """Which of our extras are installed, and what each brings."""
    for name, brings in EXTRAS.items():
        package, extra = name.removesuffix("]").split("[")
        wanted = [Requirement(line) for line in requires(package) or ()]
        of_extra = [one for one in wanted if one.marker and one.marker.evaluate({"extra": extra})]
        there = bool(of_extra) and all(map(_fits, of_extra))
        how = "installed" if there else f"not installed (pip install '{name}')"
        yield Finding(f"[{extra}]", f"{how}: {brings}")


def gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        return Finding("gpu", ", ".join(f"{one.name}, {one.total_memory / 1e9:.0f} GB" for one in found))
    if shutil.which("nvidia-smi") is None:
        return Finding("gpu", "none: everything runs on the processor")
    remedy = "install the torch for its driver, as https://pytorch.org/get-started/locally says"
    return Finding("gpu", f"there is one, but torch {torch.__version__} cannot use it", remedy)


def compiling() -> Finding:
    """In a process of its own, which may hang or crash; nothing that is on by default needs it."""
    command = [sys.executable, "-c", COMPILE]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return Finding("torch.compile", f"not done after {PATIENCE:.0f} s: leave training.compile=null")
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or [f"status {error.returncode}"])[-1]
        return Finding("torch.compile", f"does not work: leave training.compile=null ({last:.200})")
    return Finding("torch.compile", "works")


def memory() -> Finding:
    return Finding("memory", f"{physical_memory() / 1e9:.1f} GB")


def disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    remedy = "free some, or run in another folder" if free < LEAST_DISK else None
    return Finding("disk", f"{free / 1e9:.1f} GB free here", remedy)


def datasets() -> Iterator[Finding]:
    from slices.training.data.store import Manifest, check_sizes

    for path in sorted(Path("datasets").glob("*/manifest.json")):
        try:
            manifest = Manifest.read(path.parent)
            check_sizes(path.parent, manifest)
        except ValueError as error:
            yield Finding(str(path.parent), "is no whole dataset", str(error))
        else:
            yield Finding(str(path.parent), f"{manifest.counts['stays']:,} stays")


def earlier() -> Iterator[Finding]:
    found = past_runs(Path("outputs"))
    if found:
        yield Finding("outputs", f"{len(found)} runs: `slices runs` lists them")


def _fits(requirement: Requirement) -> bool:
    installed = _installed(requirement.name)
    return installed is not None and requirement.specifier.contains(installed, prereleases=True)


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
