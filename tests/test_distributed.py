"""Two real processes on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from slices.encoders import load_encoder


@pytest.mark.slow
@pytest.mark.parametrize("ssl", ["mae", "contrastive", "jepa"])
def test_the_command_line_pretrains_on_two_ranks(ssl: str, on_tiny: list[str], tmp_path: Path) -> None:
    ranks = ["trainer.accelerator=cpu", "trainer.devices=2", "+trainer.strategy=ddp"]
    narrow = ["encoder.d_model=16", "encoder.n_layers=1", "encoder.pooling=attention", f"ssl={ssl}"]
    command = [sys.executable, "-m", "slices.training.apps.pretrain", *on_tiny, *ranks, *narrow]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("next: hatch run train:finetune") == 1  # said once, not once a rank
    assert load_encoder(tmp_path / "outputs" / "encoder.pt").card.objective == ssl


@pytest.mark.slow
def test_two_ranks_predict_every_test_stay_once(on_tiny: list[str], tmp_path: Path) -> None:
    scratch = ["checkpoint_path=null", "training.freeze_encoder=false", "encoder=gru", "encoder.d_model=8"]
    ranks = ["trainer.accelerator=cpu", "trainer.devices=2", "+trainer.strategy=ddp"]
    tested = []
    for devices in ([], ranks):
        run = f"on_{len(devices)}"
        command = [sys.executable, "-m", "slices.training.apps.finetune", *on_tiny, *scratch, *devices]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*command, f"hydra.run.dir={run}"], cwd=tmp_path, capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        table = pl.read_parquet(tmp_path / run / "predictions.parquet")
        tested.append(sorted(table.filter(pl.col("output") == 1)["stay_id"].to_list()))
    assert tested[0] == tested[1]
    assert len(set(tested[0])) == len(tested[0])
