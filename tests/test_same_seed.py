"""One seed, one result: whoever cuts the batches, and however many do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from quick import data_for, trainer_for
from slices.training import SSLPretrainModule, StayDataModule


class Batches(Dataset[dict[str, Tensor]]):
    """The first epoch's, cut by the workers of torch's own loader."""

    def __init__(self, data: StayDataModule) -> None:
        self.data, self.rows = data, data.train_dataloader().sampler.batches()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return self.data.cut(self.rows[i], epoch=0)


def trained(config: DictConfig, folder: Path, **how: Any) -> dict[str, Tensor]:
    torch.manual_seed(0)
    module = SSLPretrainModule(config)
    trainer_for(folder, limit_train_batches=None).fit(module, **how)
    return module.state_dict()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:This DataLoader will create")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # Python 3.12
def test_weights_are_the_same_for_any_number_of_workers(
    pretrain_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    pretrain_config.encoder = {"d_model": 16, "n_layers": 1}
    data = data_for(tiny)
    data.prepare_data()
    data.setup()
    expected = trained(pretrain_config, tmp_path, datamodule=data)
    found = {}
    for n in (0, 1, 2):
        loader = DataLoader(Batches(data), batch_size=None, num_workers=n)
        found[f"{n} workers"] = trained(
            pretrain_config, tmp_path, train_dataloaders=loader, val_dataloaders=data.val_dataloader()
        )
    found["not kept"] = trained(pretrain_config, tmp_path, datamodule=data_for(tiny | {"resident_gb": 0.0}))
    for who, weights in found.items():
        assert [name for name in expected if not torch.equal(expected[name], weights[name])] == [], who
