"""Two real processes on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch

from cli import CommandLine
from real_runs import assert_same_weights, start
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
def test_an_encoder_without_blocks_is_sharded_with_what_it_is_in(on_tiny: list[str], tmp_path: Path) -> None:
    ranks = ["trainer.accelerator=cpu", "trainer.devices=2", "+trainer.strategy=fsdp2"]
    assert start(tmp_path, *on_tiny, *ranks, "encoder=gru", "encoder.d_model=8").wait() == 0
    assert load_encoder(tmp_path / "outputs" / "encoder.pt").encoder.output_dim == 8


@pytest.mark.slow
def test_a_run_of_two_ranks_is_replayed_by_two(on_tiny: list[str], tmp_path: Path) -> None:
    ranks = ["trainer.accelerator=cpu", "trainer.devices=2", "+trainer.strategy=ddp"]
    narrow = ["encoder=gru", "encoder.d_model=8", "hydra.run.dir=run"]
    assert start(tmp_path, *on_tiny, *ranks, *narrow).wait() == 0
    command = (sys.executable, "-m", "slices.training.apps.replay")
    assert start(tmp_path, "run", "hydra.run.dir=again", command=command).wait() == 0
    assert (tmp_path / "shown.txt").read_text().count("the same as run, bit for bit") == 1
    assert_same_weights(tmp_path / "run", tmp_path / "again")


@pytest.mark.slow
def test_sharded_or_not_the_encoder_and_what_is_made_of_it_are_the_same(
    on_tiny: list[str], tmp_path: Path
) -> None:
    narrow = ["encoder=transformer", "encoder.d_model=16", "encoder.dropout=0", "ssl=jepa"]
    ranks = ["trainer.accelerator=cpu", "trainer.devices=2"]
    tuned = ["training.freeze_encoder=false", "training.activation_checkpointing=true"]
    found = []
    for strategy in ("ddp", "fsdp2"):
        here = tmp_path / strategy
        here.mkdir()
        apps = (("pretrain", narrow), ("finetune", tuned))
        for app, words in apps:
            how = [*on_tiny, *ranks, f"+trainer.strategy={strategy}", *words, f"hydra.run.dir={app}"]
            command = (sys.executable, "-m", f"slices.training.apps.{app}")
            assert start(here, *how, command=command).wait() == 0, (here / "shown.txt").read_text()
        table = pl.read_parquet(here / "finetune" / "predictions.parquet").sort("stay_id", "output")
        found.append((load_encoder(here / "pretrain" / "encoder.pt").encoder.state_dict(), table))
    (weights, table), (other_weights, other_table) = found
    for name, value in weights.items():
        torch.testing.assert_close(other_weights[name], value, rtol=1e-3, atol=1e-3, msg=name)
    assert (table["prediction"] - other_table["prediction"]).abs().max() < 0.01  # type: ignore[operator]


@pytest.mark.slow
def test_runs_of_a_sweep_each_start_ranks_of_their_own(on_tiny: list[str], tmp_path: Path) -> None:
    """One of them fails, and the others are not kept from ending."""
    ranks = ["trainer.accelerator=cpu", "trainer.devices=2", "+trainer.strategy=ddp"]
    sweep = ["hydra.sweep.dir=sweep", "ssl=mae", "ssl.mask_ratio=0.3,1.3,0.6"]
    process = start(tmp_path, "--multirun", *on_tiny, *ranks, *sweep, "encoder=gru", "encoder.d_model=8")
    assert process.wait(timeout=300) == 2
    shown = (tmp_path / "shown.txt").read_text()
    assert "mask_ratio" in shown and "Traceback" not in shown
    ended = [(tmp_path / "sweep" / str(run) / "encoder.pt").is_file() for run in range(3)]
    assert ended == [True, False, True]


def test_a_sweep_is_not_started_by_torchrun(
    on_tiny: list[str], cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    done = cli("pretrain", "--multirun", *on_tiny, "seed=1,2")
    assert done.status == 2 and "leave torchrun out" in done.err


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
