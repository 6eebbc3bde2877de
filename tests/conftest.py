from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader

from adapting import MORTALITY, prepared
from cli import CommandLine
from quick import trainer_for
from slices.encoders import build_encoder, save_encoder
from slices.training import SSLPretrainModule
from slices.training.checkpoint_io import AtomicCheckpointIO

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
N_STAYS = 120

torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """What is imported by now stays: it need not be gone through by each collection of garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def dataset_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests' synthetic stays are prepared, once."""
    return tmp_path_factory.mktemp("datasets") / "synthetic"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, where there is one."""
    path = Path(os.environ.get("SLICES_SHARED_DATA", CONFIGS.parents[1] / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real data at {path} (set SLICES_SHARED_DATA)")
    return path


@pytest.fixture
def tiny(dataset_dir: Path) -> dict[str, Any]:
    """A data section: few synthetic stays in twelve time bins."""
    return {
        "source": {"name": "synthetic", "n_stays": N_STAYS, "seed": 0},
        "dataset_dir": str(dataset_dir),
        "horizon": 48.0,
        "resolution": 4.0,
        "batch_size": 32,
    }


@pytest.fixture
def pretrain_config(tiny: dict[str, Any]) -> DictConfig:
    """``configs/pretrain.yaml``, loaded as the guide has it, on the tests' data and a narrow encoder."""
    config = OmegaConf.load(CONFIGS / "pretrain.yaml")
    assert isinstance(config, DictConfig)
    config.data = tiny
    config.encoder = {"d_model": 16}
    return config


@pytest.fixture
def finetune_config(tiny: dict[str, Any]) -> DictConfig:
    config = OmegaConf.load(CONFIGS / "finetune.yaml")
    assert isinstance(config, DictConfig)
    config.data = tiny
    config.checkpoint_path = None
    return config


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> CommandLine:
    """The apps' command line, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return CommandLine(monkeypatch, capfd)


@pytest.fixture
def cli_with_reports(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> CommandLine:
    """The same, and runs leave their report."""
    monkeypatch.chdir(tmp_path)
    return CommandLine(monkeypatch, capfd, reports=True)


@pytest.fixture
def on_tiny(dataset_dir: Path) -> list[str]:
    """The overrides that put an app on the tests' stays."""
    return [
        f"data.dataset_dir={dataset_dir}",
        f"data.source.n_stays={N_STAYS}",
        "data.resolution=4",
        "training.max_epochs=1",
        "training.batch_size=32",
    ]


@pytest.fixture
def pretrained(tiny: dict[str, Any], tmp_path: Path) -> Path:
    """A transformer of two blocks in place of a pretrained one."""
    data = prepared(tiny, MORTALITY)
    torch.manual_seed(1)
    shape = {"d_input": len(data.variables), "static_columns": data.static_columns}
    encoder = build_encoder("transformer", {**shape, "d_model": 16, "n_layers": 2, "n_heads": 2})
    save_encoder(tmp_path / "encoder.pt", encoder, normalizer=data.normalizer)
    return tmp_path / "encoder.pt"


@pytest.fixture(scope="session")
def first_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Lightning checkpoint of a moment of pretraining."""
    config: dict[str, Any] = {"encoder": {"name": "gru", "d_input": 5, "d_model": 8}, "ssl": {"name": "mae"}}
    stays = {"timeseries": torch.randn(4, 6, 5), "mask": torch.rand(4, 6, 5) < 0.5}
    batches: Any = DataLoader([stays], batch_size=None)  # type: ignore[arg-type]
    folder = tmp_path_factory.mktemp("pretraining")
    trainer = trainer_for(folder, limit_val_batches=0, plugins=[AtomicCheckpointIO()])
    trainer.fit(SSLPretrainModule(config | {"optimizer": {"name": "adamw"}}), batches, batches)
    trainer.save_checkpoint(folder / "first.ckpt")
    return folder / "first.ckpt"


@pytest.fixture
def checkpoint(first_checkpoint: Path, tmp_path: Path) -> Path:
    """One to do something to."""
    return Path(shutil.copy(first_checkpoint, tmp_path / "pretraining.ckpt"))


@pytest.fixture
def arguments(on_tiny: list[str]) -> list[str]:
    """A small benchmark, as it would be typed."""
    own = [word for word in on_tiny if not word.startswith("training.")]
    return [
        *own,
        *("jobs=2", "folder=league", "encoders=[linear]", "data.splits.n_folds=2", "seeds=[0,1]"),
        *("baselines=[logistic_regression]", "label_fractions=[0.3,1.0]", "draws=[2,1]"),
        *("+pretrain.all.training.max_epochs=1", "+finetune.all.training.max_epochs=1"),
    ]
