"""Preparing with several processes: killed in the middle, and with a part that fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from processes import is_running, wait_until
from slices.training.data import prepare_dataset
from slices.training.data.store import ARRAYS
from slow_source import PARTS, SlowConfig, SlowSource, reads


def prepare_elsewhere(folder: Path, seconds: float) -> subprocess.Popen[bytes]:
    """A process that prepares with two more."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = "from slow_source import main; import sys; main(*sys.argv[1:])"
    arguments = (str(folder / "d"), str(folder / "log"), str(seconds))
    return subprocess.Popen([sys.executable, "-c", command, *arguments], env=environment)


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_and_leaves_no_process(tmp_path: Path) -> None:
    killed = prepare_elsewhere(tmp_path, seconds=0.5)
    workshop = tmp_path / ".d.parts"
    wait_until(lambda: len(list(workshop.glob("part-?????/part.json"))) >= 3)
    killed.kill()  # SIGKILL: it cannot tidy up
    assert killed.wait() < 0 and not (tmp_path / "d").exists()
    workers = {pid for pid, _ in reads(tmp_path / "log")}
    assert len(workers) == 2 and killed.pid not in workers
    wait_until(lambda: not any(map(is_running, workers)), seconds=10)
    n_done = len(list(workshop.glob("part-?????/part.json")))
    assert 3 <= n_done < PARTS

    n_reads = len(reads(tmp_path / "log"))
    assert prepare_elsewhere(tmp_path, seconds=0.0).wait() == 0
    assert len(reads(tmp_path / "log")) - n_reads == PARTS - n_done
    whole = prepare_dataset(SlowSource(SlowConfig(log=str(tmp_path / "log"))), tmp_path / "in-one-go")
    for array in ARRAYS:
        assert (tmp_path / "d" / array).read_bytes() == (whole.directory / array).read_bytes(), array
    resumed = prepare_dataset(SlowSource(SlowConfig(log=str(tmp_path / "log"))), tmp_path / "d")
    assert resumed.manifest.fingerprint == whole.manifest.fingerprint
    assert resumed.manifest.drops == whole.manifest.drops
    assert not workshop.exists()


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_part_that_fails_is_named_and_ends_the_others(tmp_path: Path, jobs: int) -> None:
    config = SlowConfig(log=str(tmp_path / "log"), seconds=0.4, broken="number 1")
    with pytest.raises(ValueError, match="a value that cannot be") as raised:
        prepare_dataset(SlowSource(config), tmp_path / "d", jobs=jobs)
    assert raised.value.__notes__ == ["(in part number 1 of the source)"]
    assert "number 1" in [part for _, part in reads(tmp_path / "log")]
    assert len(reads(tmp_path / "log")) < PARTS - 2  # those that were not begun never are
    assert not (tmp_path / "d").exists()
