"""The main job on the real stays of PhysioNet 2012, where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli import CommandLine

ROOT = Path(__file__).resolve().parents[1]
RAW = Path(os.environ.get("SLICES_SHARED_DATA", ROOT.parent / "shared" / "data")) / "physionet2012"


@pytest.mark.slow
@pytest.mark.skipif(not RAW.is_dir(), reason="needs PhysioNet 2012 at SLICES_SHARED_DATA or ../shared/data")
def test_the_same_commands_work_on_physionet2012(cli: CommandLine) -> None:
    data = ["data=physionet2012", f"data.source.raw={RAW}", "data.source.sets=[a]", "data.resolution=4"]
    prepared = cli("prepare", *data)
    assert prepared.status == 0, prepared.err
    assert "4,000 stays" in prepared.out and "plausible range" in prepared.out
    pretrained = cli("pretrain", *data, "training.max_epochs=2", "encoder.d_model=32")
    assert pretrained.status == 0, pretrained.err
    finetuned = cli("finetune", *data, "training.max_epochs=8")
    assert finetuned.status == 0, finetuned.err
    auroc = float(finetuned.out.split("test/auroc: ")[1].split()[0])
    assert auroc > 0.7, finetuned.out


@pytest.mark.slow
@pytest.mark.skipif(not RAW.is_dir(), reason="needs PhysioNet 2012 at SLICES_SHARED_DATA or ../shared/data")
@pytest.mark.parametrize(
    ("task", "metric", "least"),
    [
        ("in_hospital_mortality", "auroc", 0.65),  # binary
        ("length_of_stay_class", "auroc", 0.55),  # multiclass
        ("survival_class", "auroc", 0.55),
        ("organ_failure", "auroc", 0.65),  # multilabel
        ("length_of_stay", "r2", 0.0),  # regression
        ("time_to_death", "concordance", 0.6),  # survival
    ],
)
def test_every_type_of_task_is_one_command_on_real_labels(
    task: str, metric: str, least: float, cli: CommandLine
) -> None:
    data = ["data=physionet2012", f"data.source.raw={RAW}", "data.source.sets=[a]", "data.resolution=4"]
    data += ["data/definitions=time_to_death"] if task == "time_to_death" else []
    scratch = ["checkpoint_path=null", "training.freeze_encoder=false", "encoder=gru", "encoder.d_model=32"]
    done = cli("finetune", *data, f"task={task}", *scratch, "training.max_epochs=4", "optimizer.lr=0.005")
    assert done.status == 0, done.err
    assert float(done.out.split(f"test/{metric}: ")[1].split()[0]) > least, done.out
