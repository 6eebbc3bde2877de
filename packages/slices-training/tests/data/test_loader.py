"""The order of batches, and Lightning stopping and resuming in the middle of it."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import Callback

from slices.training.data import StayDataModule
from slices.training.data.loader import StayLoader, StaySampler
from slices.training.data.samples import WindowConfig


def loader(n: int = 25, batch_size: int = 4, **options: Any) -> StayLoader:
    sampler = StaySampler(np.arange(n), batch_size, **({"shuffle": True} | options))
    return StayLoader(lambda stays, epoch: {"stay_id": torch.from_numpy(stays)}, sampler)


def epoch_of(loader: StayLoader, epoch: int) -> list[list[int]]:
    loader.sampler.set_epoch(epoch)
    return [batch["stay_id"].tolist() for batch in loader]


def test_an_epoch_has_every_stay_once_in_an_order_of_its_own() -> None:
    epochs = [epoch_of(loader(), epoch) for epoch in range(3)]
    assert all(sorted(chain(*epoch)) == list(range(25)) for epoch in epochs)
    assert [len(batch) for batch in epochs[0]] == [4, 4, 4, 4, 4, 4, 1]
    assert epochs[0] != epochs[1] != epochs[2]
    assert epoch_of(loader(), 1) == epochs[1]
    assert epoch_of(loader(seed=1), 1) != epochs[1]
    assert list(chain(*epoch_of(loader(shuffle=False), 5))) == list(range(25))


def test_a_small_set_still_trains() -> None:
    assert len(loader(n=3, batch_size=64)) == 1
    assert sorted(epoch_of(loader(n=3, batch_size=64), 0)[0]) == [0, 1, 2]


@given(n=st.integers(1, 60), batch_size=st.integers(1, 20), world=st.integers(1, 4), epoch=st.integers(0, 3))
def test_ranks_share_an_epoch_evenly(n: int, batch_size: int, world: int, epoch: int) -> None:
    ranks = [loader(n, batch_size, rank=rank, world_size=world) for rank in range(world)]
    dealt = [epoch_of(one, epoch) for one in ranks]
    sizes = [[len(batch) for batch in batches] for batches in dealt]
    assert sizes == sizes[:1] * world and max(sizes[0]) <= batch_size
    assert all(len(one) == len(batches) for one, batches in zip(ranks, dealt, strict=True))
    seen = sorted(stay for batches in dealt for batch in batches for stay in batch)
    assert set(seen) == set(range(n)) and len(seen) - n < world


@given(n=st.integers(4, 60), batch_size=st.integers(1, 20), world=st.integers(1, 4))
def test_evaluation_sees_every_stay_once_on_all_ranks_together(n: int, batch_size: int, world: int) -> None:
    dealt = [
        epoch_of(loader(n, batch_size, shuffle=False, rank=r, world_size=world), 0) for r in range(world)
    ]
    assert sorted(stay for batches in dealt for batch in batches for stay in batch) == list(range(n))
    assert len({len(batches) for batches in dealt}) == 1
    assert all(0 < len(batch) <= batch_size + (world > 1) for batches in dealt for batch in batches)


def test_more_ranks_than_stays_is_refused() -> None:
    with pytest.raises(ValueError, match="2 stays cannot be dealt out to 3 ranks"):
        loader(n=2, shuffle=False, world_size=3)


@given(done=st.integers(0, 7), epoch=st.integers(0, 2))
def test_a_resumed_epoch_goes_on_where_it_stopped(done: int, epoch: int) -> None:
    whole, stopped, resumed = epoch_of(loader(), epoch), loader(), loader()
    stopped.sampler.set_epoch(epoch)
    batches = iter(stopped)
    for _ in range(done):
        next(batches)
    resumed.load_state_dict(stopped.state_dict())
    assert epoch_of(resumed, epoch) == (whole[done:] if done else whole)
    assert epoch_of(resumed, epoch + 1) == epoch_of(loader(), epoch + 1)


def test_a_state_of_another_epoch_is_forgotten() -> None:
    ended, next_one = loader(), loader()
    epoch_of(ended, 0)
    next_one.load_state_dict(ended.state_dict())
    assert epoch_of(next_one, 1) == epoch_of(loader(), 1)


@pytest.mark.parametrize("change", [{"batch_size": 5}, {"seed": 3}, {"n": 26}, {"sizes": np.arange(25)}])
def test_resuming_in_another_order_is_refused(change: dict[str, Any]) -> None:
    state = loader().state_dict()
    with pytest.raises(ValueError, match=r"cannot resume in the same order of stays .* then, .* now"):
        loader(**change).load_state_dict(state)


def test_resuming_with_other_windows_is_refused(synthetic_config: Any) -> None:
    def training(**window: Any) -> StayLoader:
        data = StayDataModule(synthetic_config(window=WindowConfig(length=12.0, **window)))
        data.setup()
        return data.train_dataloader()

    state = training().state_dict()
    training().load_state_dict(state)
    with pytest.raises(ValueError, match=r"window: .*'random': False.* then, .*'random': True.* now"):
        training(random=True).load_state_dict(state)


class Recorder(L.LightningModule):
    """One weight whose path depends on the order of all batches."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[list[int]] = []

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        self.seen.append(batch["stay_id"].tolist())
        return (self.weight - batch["timeseries"].mean() * 100) ** 2

    def validation_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        self.log("val", batch["timeseries"].mean(), batch_size=len(batch["stay_id"]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.1)


class SaveOften(Callback):
    """The first checkpoint at each step from each of the hooks in which checkpoints are written."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def save(self, trainer: L.Trainer, hook: str) -> None:
        path = self.directory / f"{hook}-{trainer.global_step}.ckpt"
        if not path.exists() and not trainer.sanity_checking:
            trainer.save_checkpoint(path)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.save(trainer, "batch")

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.save(trainer, "validation")

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.save(trainer, "epoch")


def fit(data: StayDataModule, *callbacks: Callback, resume: Path | None = None, **options: Any) -> Recorder:
    module = Recorder()
    trainer = L.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **options,
    )
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=None if resume is None else True)
    return module


@pytest.mark.parametrize(
    "options",
    [
        {"accumulate_grad_batches": 2},
        *(
            pytest.param(options, marks=pytest.mark.slow)
            for options in ({}, {"val_check_interval": 2}, {"limit_train_batches": 5})
        ),
    ],
)
def test_lightning_resumes_with_exactly_the_remaining_batches(
    options: dict[str, Any], synthetic_config: Any, tmp_path: Path
) -> None:
    config = synthetic_config()
    undisturbed = fit(StayDataModule(config), SaveOften(tmp_path), **options)
    n_batches = len(undisturbed.seen) // 3
    per_step = options.get("accumulate_grad_batches", 1)
    n_steps = -(-n_batches // per_step)  # of the optimizer, in an epoch
    resumed_from = []
    for step in (2, n_steps, n_steps + 1):
        for path in sorted(tmp_path.glob(f"*-{step}.ckpt")):
            resumed = fit(StayDataModule(config), resume=path, **options)
            epochs, steps = divmod(step, n_steps)
            assert resumed.seen == undisturbed.seen[epochs * n_batches + steps * per_step :], path.stem
            assert torch.equal(resumed.weight, undisturbed.weight), path.stem
            resumed_from.append(path.stem)
    assert {"batch-2", f"batch-{n_steps}", f"epoch-{n_steps}"} <= set(resumed_from)
    assert any(stem.startswith("validation") for stem in resumed_from)


def test_even_evaluation_gives_every_rank_batches_of_the_same_size() -> None:
    stays = np.arange(23)
    ranks = [StaySampler(stays, 4, shuffle=False, even=True, rank=rank, world_size=3) for rank in range(3)]
    sizes = [[len(batch) for batch in sampler.batches()] for sampler in ranks]
    assert sizes[0] == sizes[1] == sizes[2]
    seen = np.concatenate([batch for sampler in ranks for batch in sampler.batches()])
    assert sorted(seen) == list(range(21))  # each once; two, fewer than the ranks, are left out
