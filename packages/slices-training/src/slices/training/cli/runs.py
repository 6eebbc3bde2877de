"""``slices runs``: past runs, the newest first."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

from slices.training.cli.text import columns
from slices.training.past_runs import PastRun, past_runs

HEADER = ("app", "when", "outcome", "model", "of", "metrics", "seconds", "folder")
METRICS = ("test/auroc", "test/auprc", "test/loss", "probe/auroc", "val/auroc", "val/loss", "train/loss")


def add_to(commands: Any) -> None:
    parser = commands.add_parser("runs", description="a table of past runs, the newest first")
    parser.add_argument("folder", nargs="?", default="outputs", type=Path, metavar="FOLDER")
    parser.add_argument("--csv", action="store_true", help="for a program to read")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if not arguments.folder.is_dir():
        raise FileNotFoundError(f"there is no folder {arguments.folder}: give one in which runs are")
    rows = [HEADER, *(row_of(found) for found in past_runs(arguments.folder))]
    if arguments.csv:
        csv.writer(sys.stdout).writerows(rows)
    elif len(rows) == 1:
        print(f"no runs in {arguments.folder} yet: `slices pretrain` makes one")
    else:
        print(columns(rows))
    return 0


def row_of(found: PastRun) -> tuple[str, ...]:
    shown = [name for name in METRICS if name in found.metrics][:2]
    return (
        found.app,
        found.started.replace("T", " ")[:16],
        found.outcome,
        found.model,
        found.of,
        " ".join(f"{name} {found.metrics[name]:.4f}" for name in shown),
        "" if found.seconds is None else f"{found.seconds:.0f}",
        str(found.folder),
    )
