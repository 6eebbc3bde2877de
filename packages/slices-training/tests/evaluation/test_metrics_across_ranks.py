"""Two real processes that saw different batches agree with one that saw them all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from slices.training.evaluation.metrics import task_metrics

SCRIPT = """
import os, torch
from slices.training.evaluation.metrics import task_metrics
rank, folder = int(os.environ["RANK"]), os.environ["FOLDER"]
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
probs, label = torch.load(f"{folder}/batches.pt", weights_only=True)
metrics = task_metrics("multiclass")
for batch in ([0], [1, 2])[rank]:
    metrics.update(probs[batch], label[batch], label[batch] >= 0)
torch.save(metrics.compute(), f"{folder}/{rank}.pt")
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_ranks_with_different_batches_agree_with_one_process(tmp_path: Path) -> None:
    probs, label = torch.rand(3, 20, 4).softmax(-1), torch.randint(-1, 4, (3, 20))
    torch.save((probs, label), tmp_path / "batches.pt")
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT], env={**os.environ, "RANK": rank, "FOLDER": str(tmp_path)}
        )
        for rank in ("0", "1")
    ]
    assert [process.wait(timeout=120) for process in ranks] == [0, 0]
    alone = task_metrics("multiclass")
    alone.update(probs, label, label >= 0)
    for rank in (0, 1):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt", weights_only=True), alone.compute())
