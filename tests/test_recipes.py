"""The specification's three recipes for new components, as a reader would follow them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quick import data_for, trainer_for
from slices.encoders.base import BaseEncoder, EncoderConfig
from slices.encoders.factory import ENCODER_CONFIG_REGISTRY, ENCODER_REGISTRY
from slices.heads.base import BaseTaskHead, TaskHeadConfig
from slices.heads.factory import TASK_HEAD_REGISTRY
from slices.ssl.base import BaseSSLObjective, SSLConfig
from slices.ssl.factory import CONFIG_REGISTRY, SSL_REGISTRY
from slices.training import FineTuneModule, SSLPretrainModule


@dataclass
class MyEncoderConfig(EncoderConfig):
    # Add encoder-specific params
    hidden_size: int = 256


class MyEncoder(BaseEncoder):
    def __init__(self, config: MyEncoderConfig):
        super().__init__(config)
        self.gru = nn.GRU(self.d_input, config.hidden_size, batch_first=True)
        self.out = nn.Linear(config.hidden_size, config.d_model)

    def forward(self, x, mask=None, padding_mask=None):  # type: ignore[no-untyped-def, override]
        encoded = self.out(self.gru(x)[0])
        return encoded.mean(1)


@dataclass
class MySSLConfig(SSLConfig):
    name: str = "my_ssl"
    # Add objective-specific params
    noise: float = 0.1


class MySSLObjective(BaseSSLObjective):
    def __init__(self, encoder: nn.Module, config: MySSLConfig):
        super().__init__(encoder, config)
        self.back = nn.Linear(encoder.output_dim, self.d_input)  # type: ignore[arg-type]

    def forward(self, x, mask):  # type: ignore[no-untyped-def, override]
        tokens = self.encoder.encode(x + self.config.noise * torch.randn_like(x), mask)  # type: ignore[operator]
        loss = (self.back(tokens.embedding.mean(1)) - x.mean(1)).square().mean()
        metrics = {"error": loss.detach()}
        return loss, metrics


class MyTaskHead(BaseTaskHead):
    def __init__(self, config: TaskHeadConfig):
        super().__init__(config)
        self.layer = nn.Linear(self.input_dim, self.output_dim)

    def forward(self, encoder_output: Tensor) -> dict[str, Tensor]:
        logits = self.layer(encoder_output)
        probs = logits.softmax(-1)
        return {"logits": logits, "probs": probs}


@pytest.fixture
def registered() -> Iterator[None]:
    ENCODER_REGISTRY["my_encoder"] = MyEncoder
    ENCODER_CONFIG_REGISTRY["my_encoder"] = MyEncoderConfig
    SSL_REGISTRY["my_ssl"] = MySSLObjective
    CONFIG_REGISTRY["my_ssl"] = MySSLConfig
    TASK_HEAD_REGISTRY["my_head"] = MyTaskHead
    yield
    for registry, name in (
        (ENCODER_REGISTRY, "my_encoder"),
        (ENCODER_CONFIG_REGISTRY, "my_encoder"),
        (SSL_REGISTRY, "my_ssl"),
        (CONFIG_REGISTRY, "my_ssl"),
        (TASK_HEAD_REGISTRY, "my_head"),
    ):
        del registry[name]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("encoder", "ssl"),
    [("my_encoder", "mae"), ("my_encoder", "contrastive"), ("my_encoder", "jepa"), ("gru", "my_ssl")],
)
def test_a_new_encoder_or_objective_pretrains_and_fine_tunes(
    encoder: str, ssl: str, tiny: dict[str, Any], tmp_path: Path
) -> None:
    config = {
        "encoder": {"name": encoder, "d_model": 16},
        "ssl": {"name": ssl},
        "optimizer": {"name": "adamw"},
        "data": tiny,
    }
    module = SSLPretrainModule(config)
    trainer_for(tmp_path).fit(module, datamodule=data_for(tiny))
    module.save_encoder(tmp_path / "encoder.pt")

    finetune = {
        "task": {"task_type": "binary", "head_type": "my_head"},
        "training": {"freeze_encoder": False},
        "optimizer": {"name": "adamw", "lr": 1.0e-4},
    }
    tuned = FineTuneModule(finetune, checkpoint_path=tmp_path / "encoder.pt")
    datamodule = data_for(tiny, "in_hospital_mortality")
    trainer = trainer_for(tmp_path)
    trainer.fit(tuned, datamodule=datamodule)
    assert trainer.callback_metrics["val/loss"].isfinite()
    assert type(tuned.get_task_head()) is MyTaskHead


MODULE = """
from dataclasses import dataclass
from torch import nn
from slices.encoders import BaseEncoder, EncoderConfig, register_encoder

@dataclass
class MyEncoderConfig(EncoderConfig):
    hidden_size: int = 256

@register_encoder("my_encoder", MyEncoderConfig)
class MyEncoder(BaseEncoder):
    def __init__(self, config):
        super().__init__(config)
        self.gru = nn.GRU(self.d_input, config.hidden_size, batch_first=True)
        self.out = nn.Linear(config.hidden_size, config.d_model)

    def forward(self, x, mask=None, padding_mask=None):
        return self.out(self.gru(x)[0])
"""


@pytest.mark.slow
def test_an_installed_third_party_encoder_is_found_by_the_command_line(tmp_path: Path) -> None:
    """An entry point, and a config of the user's own: no line of ours changes."""
    (tmp_path / "my_package.py").write_text(MODULE)
    installed = tmp_path / "my_package-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[slices.encoders]\nmy_encoder = my_package:MyEncoder\n")
    (tmp_path / "configs" / "encoder").mkdir(parents=True)
    (tmp_path / "configs" / "encoder" / "my_encoder.yaml").write_text("name: my_encoder\nhidden_size: 32\n")
    command = [
        *(sys.executable, "-m", "slices.training.apps.pretrain", "--config-dir", "configs"),
        *("encoder=my_encoder", "data.source.n_stays=60", "data.resolution=4", "training.max_epochs=1"),
    ]
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "outputs" / "encoder.pt").is_file()
