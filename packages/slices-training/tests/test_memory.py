"""What a process took is its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from slices.training import memory


@pytest.mark.skipif(not memory.STATUS.exists(), reason="elsewhere the system's account is all there is")
def test_a_process_does_not_inherit_its_parents_peak() -> None:
    held = np.ones(50_000_000)  # 400 MB
    code = f"import runpy; print(runpy.run_path({str(Path(memory.__file__))!r})['peak_memory']())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert held.nbytes < memory.peak_memory()
    assert 1e6 < int(child.stdout) < 200e6
