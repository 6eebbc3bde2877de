"""From raw files of each layout to a fine-tuned model, by the commands of the README."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from cli import CommandLine

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("SLICES_SHARED_DATA", ROOT.parent / "shared" / "data"))
needs_real_data = pytest.mark.skipif(
    not SHARED.is_dir(), reason="needs real data at SLICES_SHARED_DATA or ../shared/data"
)
QUICK = ["training.max_epochs=1", "encoder.d_model=16"]
SCRATCH = ["checkpoint_path=null", "training.freeze_encoder=false", "encoder=gru", *QUICK]


def run(cli: CommandLine, app: str, *typed: str) -> str:
    done = cli(app, *typed)
    assert done.status == 0, done.err
    return done.out


@pytest.mark.slow
@needs_real_data
@pytest.mark.parametrize("task", ["mortality24", "kidney_function", "aki", "sepsis", "los"])
def test_every_yaib_task_goes_from_raw_to_a_model(task: str, cli: CommandLine) -> None:
    data = [
        "data=ricu",
        f"data.source.raw={SHARED / 'yaib-mimic-demo' / task}",
        f"data.source.task_name={task}",
        f"data.source.task_type={'regression' if task in ('los', 'kidney_function') else 'binary'}",
        "data.horizon=168",
        "data.splits.val_fraction=0.3",
        "data.splits.test_fraction=0.3",
    ]
    run(cli, "pretrain", *data, *QUICK)
    out = run(cli, "finetune", *data, "task=from_data", f"task.task_name={task}", *SCRATCH)
    assert "test/loss" in out
    if task in ("aki", "sepsis", "los"):  # an encoder that sees the future gets prefixes
        by_time = ["task.per_step=false", "encoder=transformer", "encoder.d_model=16", "data.resolution=4"]
        prefixes = [word for word in SCRATCH if not word.startswith("encoder")]
        out = run(cli, "finetune", *data, "task=from_data", f"task.task_name={task}", *prefixes, *by_time)
        assert "test/loss" in out


@pytest.mark.slow
@needs_real_data
def test_meds_goes_from_raw_to_a_model_in_its_own_splits(cli: CommandLine, tmp_path: Path) -> None:
    label = "+data.source.labels.icu_mortality"
    data = [
        "data=meds",
        f"data.source.raw={SHARED / 'mimic-iv-demo-meds'}",
        f"{label}.file='tasks/ICU Mortality first 24h.parquet'",
        f"{label}.task_type=binary",
        "data.splits.train_sets=[train]",
        "data.splits.val_sets=[tuning]",
        "data.splits.test_sets=[held_out]",
    ]
    assert "140 stays" in run(cli, "prepare", *data)
    run(cli, "pretrain", *data, *QUICK)
    task = ["task=from_data", "task.task_name=icu_mortality", "training.max_epochs=2"]
    assert "test/loss" in run(cli, "finetune", *data, *task)
    (file,) = tmp_path.rglob("predictions.parquet")
    assert set(pl.read_parquet(file)["prediction_time"]) == {24.0}


@pytest.mark.slow
@needs_real_data
def test_an_encoder_is_carried_to_another_hospital(cli: CommandLine) -> None:
    """Pretrained on PhysioNet 2012 in the common vocabulary, fine-tuned on the MIMIC demo of YAIB."""
    source = f"{{name: physionet2012, raw: {SHARED / 'physionet2012'}, sets: [a]}}"
    pool = [
        "data=pool",
        f"+data.source.members.p2012.source={source}",
        "+data.source.members.p2012.renaming=physionet2012",
        "data.resolution=4",
    ]
    run(cli, "pretrain", *pool, *QUICK)
    yaib = [
        "data=ricu",
        f"data.source.raw={SHARED / 'yaib-mimic-demo' / 'mortality24'}",
        "data.source.task_name=mortality24",
        "data.resolution=4",
        *("task=from_data", "task.task_name=mortality24", "training.max_epochs=1"),
    ]
    refused = cli("finetune", *yaib)
    assert refused.status == 2 and "training.adapt_variables=true" in refused.err
    assert "test/loss" in run(cli, "finetune", *yaib, "training.adapt_variables=true")


def test_a_table_of_ones_own_goes_to_a_model(cli: CommandLine, tmp_path: Path) -> None:
    rows, stays, labels = ["stay_id,time,variable,value"], ["stay_id,age"], ["stay_id,prediction_time,value"]
    for stay in range(60):
        stays.append(f"{stay},{40 + stay % 50}")
        labels.append(f"{stay},12,{stay % 2}")
        rows += [f"{stay},{hour},hr,{70 + 20 * (stay % 2) + hour}" for hour in range(24)]
        rows += [f"{stay},{hour}.5,lact,{1 + stay % 2}" for hour in range(0, 24, 6)]
    for name, lines in (("rows", rows), ("stays", stays), ("labels", labels)):
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))
    data = [
        *("data=table", f"data.source.raw={tmp_path / 'rows.csv'}", "data.source.vocabulary=icu"),
        *(f"data.source.stays={tmp_path / 'stays.csv'}", "data.source.statics=[age]"),
        *(f"data.source.labels={tmp_path / 'labels.csv'}", "+data.source.tasks.died={task_type: binary}"),
        *("data.horizon=24", "data.splits.val_fraction=0.2", "data.splits.test_fraction=0.2"),
    ]
    assert "60 stays" in run(cli, "prepare", *data)
    run(cli, "pretrain", *data, *QUICK)
    assert "test/auroc" in run(cli, "finetune", *data, "task=from_data", "task.task_name=died")
