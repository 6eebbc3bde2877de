"""What a process took is its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from slices.training import memory
from slices.training.errors import UserError


@pytest.mark.skipif(not memory.STATUS.exists(), reason="elsewhere the system's account is all there is")
def test_a_process_does_not_inherit_its_parents_peak() -> None:
    held = np.ones(50_000_000)  # 400 MB
    code = f"import runpy; print(runpy.run_path({str(Path(memory.__file__))!r})['peak_memory']())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert held.nbytes < memory.peak_memory()
    assert 1e6 < int(child.stdout) < 200e6


@pytest.fixture
def of_a_megabyte(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of it, without a GPU."""
    monkeypatch.setattr(memory, "physical_memory", lambda: 1e6)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("of_a_megabyte")
def test_weights_are_refused_as_they_are_made() -> None:
    with memory.models_that_fit():
        nn.Linear(300, 400)
        with torch.device("meta"):
            nn.Linear(3000, 4000)  # which takes none
        with pytest.raises(UserError, match=r"more than 0 GB, half of this machine's .*encoder\.d_model"):
            nn.Linear(100, 100)


@pytest.mark.usefixtures("of_a_megabyte")
def test_a_model_has_room_for_what_training_keeps_beside_it() -> None:
    with memory.models_that_fit():
        for _ in range(3):  # of a file, and again as it is asked for
            model = nn.Linear(100, 300)
    memory.require_room(model)
    frozen = nn.Linear(100, 600).requires_grad_(False)
    memory.require_room(frozen)
    with pytest.raises(UserError, match="half of this machine's memory"):
        memory.require_room(frozen.requires_grad_(True))
