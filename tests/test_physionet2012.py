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
    auroc = float(finetuned.out.split("test/auroc ")[1].split()[0])
    assert auroc > 0.7, finetuned.out
