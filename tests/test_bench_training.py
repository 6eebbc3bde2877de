"""The benchmark of training, and what compares two of its results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def run(script: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def result(path: Path, **figures: float) -> Path:
    row = {"encoder": "gru", "ssl": "mae", "over_floor": 2.0, "over_bare": 1.0} | figures
    path.write_text(json.dumps({"rows": [row]}), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({}, "nothing became slower"),
        ({"over_floor": 2.1}, "nothing became slower"),
        ({"over_floor": 2.5}, "gru, mae: over_floor 2.00 -> 2.50 (x 1.25)"),
        ({"over_bare": 1.3}, "gru, mae: over_bare 1.00 -> 1.30 (x 1.30)"),
    ],
)
def test_what_became_slower_is_named(figures: dict[str, float], said: str, tmp_path: Path) -> None:
    old, new = result(tmp_path / "old.json"), result(tmp_path / "new.json", **figures)
    done = run("slower.py", old, new)
    assert said in done.stdout and done.returncode == (said != "nothing became slower")


@pytest.mark.slow
def test_a_step_is_compared_with_what_the_machine_can_do(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    done = run("training.py", "linear", "--rounds", 1, "--batch", 8, "--json", found, "--trace", tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(found.read_text())["rows"]
    assert row["flops"] > 0 and row["bytes"] > 0
    assert row["over_floor"] > 1  # or the floor is none
    assert sum(row["shares"].values()) == pytest.approx(1)
    assert (tmp_path / "linear-mae.json").stat().st_size > 1000
    assert run("slower.py", found, found).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("how", [["--stays", 300], ["--lengths", 40, "--rounds", 1, "--encoders", "gru"]])
def test_what_many_and_long_stays_cost_is_measured(how: list[object]) -> None:
    small = ["--batch", 4, "--steps", 4, "--variables", 5, "--events", 40]
    done = run("scale.py", *how, *small)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
