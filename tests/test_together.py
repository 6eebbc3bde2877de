"""Where one rank cannot write, all end, and none waits for it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch.distributed as dist

from quick import data_for
from real_runs import start
from slices.training.checkpoint_io import AtomicCheckpointIO
from slices.training.errors import FailedRun
from slices.training.together import writing_together


@pytest.mark.parametrize("rank", [0, 1])
def test_where_the_first_of_two_ranks_cannot_write_both_end(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[str] = []

    def gather(of_ranks: list[Any], own: list[str]) -> None:
        met.append("gather")
        assert bool(own) == (rank == 0)
        of_ranks[:] = [["cannot write"], []]

    monkeypatch.setattr(dist, "all_gather_object", gather)
    strategy = SimpleNamespace(barrier=met.append)
    trainer: Any = SimpleNamespace(world_size=2, is_global_zero=rank == 0, strategy=strategy)
    (tmp_path / "file").touch()
    with pytest.raises(FailedRun if rank == 0 else SystemExit) as error, writing_together(trainer):
        if rank == 0:
            AtomicCheckpointIO().save_checkpoint({}, tmp_path / "file" / "last.ckpt")
        strategy.barrier("Trainer.save_checkpoint")
    assert met == ["Trainer.save_checkpoint", "gather", "ending"]  # on each, or they would wait
    assert str(error.value) == ("rank 0, cannot write" if rank == 0 else "0")


LATER = """
import os, resource
from slices.training.apps.{app} import main
if os.environ.get("LOCAL_RANK", "0") == "{rank}":  # a file may not grow any more, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("app", "rank", "name"),
    [("pretrain", 0, "last.ckpt"), ("finetune", 0, "best.ckpt"), ("pretrain", 1, "rank-1.pt")],
)
def test_a_disk_that_is_full_for_one_of_two_ranks(
    app: str, rank: int, name: str, on_tiny: list[str], tiny: dict[str, Any], tmp_path: Path
) -> None:
    data_for(tiny).prepare_data()
    (tmp_path / "run.py").write_text(LATER.format(app=app, rank=rank))
    ranks = ["trainer.accelerator=cpu", "trainer.devices=2", "+trainer.strategy=ddp", "encoder=gru"]
    own = ["checkpoint_path=null", "training.freeze_encoder=false"] if app == "finetune" else []
    if rank == 1:
        own = ["optimizer.lr=1e30", "scheduler=none", "training.keep_bad_batch=true", "training.max_epochs=5"]
    process = start(tmp_path, *on_tiny, *ranks, *own, command=(sys.executable, "run.py"))
    assert process.wait(timeout=120) == 1
    shown = (tmp_path / "shown.txt").read_text()
    assert shown.count(f"error: rank {rank}, cannot write") == 1 and name in shown
    assert "Traceback" not in shown
