"""The main job on the command line: what a newcomer types, sees and finds."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
from omegaconf import OmegaConf

from cli import CommandLine
from slices.encoders import list_encoders, load_encoder
from slices.ssl import list_objectives
from slices.training import FineTuneModule

NARROW = ["encoder.d_model=16", "encoder.n_layers=1"]


def test_the_main_job(cli: CommandLine, on_tiny: list[str], tmp_path: Path) -> None:
    pretrained = cli("pretrain", *on_tiny, *NARROW)
    assert pretrained.status == 0, pretrained.err
    (encoder,) = (tmp_path / "outputs" / "pretrain").glob("*/encoder.pt")
    assert load_encoder(encoder).card.objective == "mae"
    assert str(encoder) in pretrained.out  # where the encoder is
    assert "encoder flowsheet, objective mae" in pretrained.out  # what is trained
    assert "CPU-minutes" in pretrained.out  # what it cost
    (following,) = re.findall(r"hatch run train:finetune(.*)", pretrained.out)  # what to type next

    finetuned = cli("finetune", *following.split(), *on_tiny)
    assert finetuned.status == 0, finetuned.err
    assert "test/auroc" in finetuned.out and "mean prediction" in finetuned.out
    (table,) = (tmp_path / "outputs" / "finetune").glob("*/predictions.parquet")
    predictions = pl.read_parquet(table)
    assert predictions["output"].n_unique() == 2
    of_stay = predictions.group_by("stay_id").agg(pl.col("prediction").sum())
    assert of_stay["prediction"].to_list() == pytest.approx([1.0] * len(of_stay), abs=1e-5)
    (model,) = (tmp_path / "outputs" / "finetune").glob("*/checkpoints/best.ckpt")
    FineTuneModule.load_from_checkpoint(model, weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("resolution", ["4", "timestamps"])
@pytest.mark.parametrize("encoder", list_encoders())
def test_every_encoder_goes_the_whole_way(
    encoder: str, resolution: str, cli: CommandLine, on_tiny: list[str]
) -> None:
    """Pretrained, probed, fine-tuned, in use, on a grid and on measured times."""
    on = [word for word in on_tiny if not word.startswith("data.resolution")]
    on += [f"data.resolution={resolution}"]
    narrow = ["encoder.d_model=16", f"encoder={encoder}"]
    if encoder == "observation_transformer":  # its own, attention, is nothing that a probe could train
        narrow += ["encoder.pooling=mean"]
    done = cli("pretrain", *on, *narrow, "hydra.run.dir=pretrained")
    assert done.status == 0, done.err
    for way in ("probe", "finetune"):
        words = [f"adaptation={way}", "checkpoint_path=pretrained/encoder.pt", f"hydra.run.dir={way}"]
        done = cli("finetune", *on, *words)
        assert done.status == 0, (way, done.err)
    done = cli("predict", "model=finetune", *on[:2], "hydra.run.dir=new")
    assert done.status == 0, done.err
    assert cli("embed", "model=pretrained/encoder.pt", *on[:2], "hydra.run.dir=embedded").status == 0


@pytest.mark.parametrize(
    "ssl",
    [
        name if name in ("sum", "supervised_contrastive") else pytest.param(name, marks=pytest.mark.slow)
        for name in list_objectives()
    ],
)
def test_every_objective_pretrains(ssl: str, cli: CommandLine, on_tiny: list[str]) -> None:
    own = {
        "sum": ["ssl.parts={mae: {weight: 1.0, mask_ratio: 0.7}, vicreg: {weight: 0.1, views: {crop: 0.5}}}"],
        "supervised_contrastive": ["labels=in_hospital_mortality"],
    }
    words = [f"ssl={ssl}", *own.get(ssl, []), "encoder=gru", "encoder.d_model=16", "hydra.run.dir=pretrained"]
    done = cli("pretrain", *on_tiny, *words)
    assert done.status == 0, done.err
    assert load_encoder("pretrained/encoder.pt").card.objective == ssl


def test_from_scratch_is_the_same_app_with_no_checkpoint(cli: CommandLine, on_tiny: list[str]) -> None:
    done = cli(
        "finetune",
        *on_tiny,
        *("checkpoint_path=null", "training.freeze_encoder=false", "encoder=gru", "encoder.d_model=16"),
    )
    assert done.status == 0, done.err


@pytest.mark.parametrize("task", ["length_of_stay", "length_of_stay_class", "organ_failure", "deterioration"])
def test_every_task_predicts(task: str, cli: CommandLine, on_tiny: list[str], tmp_path: Path) -> None:
    scratch = ["checkpoint_path=null", "training.freeze_encoder=false", "encoder=gru", "encoder.d_model=8"]
    done = cli("finetune", *on_tiny, *scratch, f"task={task}")
    assert done.status == 0, done.err
    (table,) = (tmp_path / "outputs" / "finetune").glob("*/predictions.parquet")
    predictions = pl.read_parquet(table)
    assert predictions["label"].is_not_null().any()
    assert (predictions["step"].max() or 0) > 0 if task == "deterioration" else predictions["step"].max() == 0


@pytest.mark.parametrize("encoder", ["gru", "transformer"])
def test_measured_timestamps_instead_of_a_grid(cli: CommandLine, on_tiny: list[str], encoder: str) -> None:
    timestamps = [
        "data.resolution=timestamps",
        "data.max_steps=64",
        f"encoder={encoder}",
        "encoder.d_model=16",
    ]
    done = cli("pretrain", *on_tiny, *timestamps)
    assert done.status == 0, done.err


def test_a_sweep_runs_every_choice(cli: CommandLine, on_tiny: list[str], tmp_path: Path) -> None:
    done = cli("pretrain", "-m", *on_tiny, *NARROW, "optimizer.lr=1e-3,1e-4", "hydra.sweep.dir=sweep")
    assert done.status == 0, done.err
    runs = sorted(path for path in (tmp_path / "sweep").iterdir() if path.is_dir())
    rates = [OmegaConf.load(run / "config.yaml").optimizer.lr for run in runs]
    assert rates == [1e-3, 1e-4] and all((run / "encoder.pt").is_file() for run in runs)


def test_prepare_says_what_was_done(cli: CommandLine) -> None:
    arguments = ["data.source.n_stays=50", "data.dataset_dir=made"]
    first = cli("prepare", *arguments)
    assert first.status == 0 and "50 stays" in first.out and "stays/s" in first.out
    assert cli("prepare", *arguments).status == 0
    other = cli("prepare", "data.source.n_stays=60", "data.dataset_dir=made")
    assert other.status == 2 and "n_stays" in other.err and "overwrite=true" in other.err
    assert cli("prepare", "data.source.n_stays=60", "data.dataset_dir=made", "overwrite=true").status == 0


def test_describe_prepares_and_writes_a_report(cli: CommandLine, tmp_path: Path) -> None:
    arguments = ["data.source.n_stays=50", "data.dataset_dir=made"]
    done = cli("describe", *arguments, "folder=said")
    assert done.status == 0, done.err
    text = (tmp_path / "said" / "report.txt").read_text(encoding="utf-8")
    assert text in done.out and "heart_rate" in text and "in_hospital_mortality" in text
    assert "heart_rate" in (tmp_path / "said" / "report.html").read_text(encoding="utf-8")
    assert cli("prepare", *arguments).status == 0  # the dataset is there
    other = cli("describe", "data.source.n_stays=60", "data.dataset_dir=made")
    assert other.status == 2 and "overwrite=true" in other.err
