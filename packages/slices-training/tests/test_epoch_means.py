"""Means over an epoch."""

from __future__ import annotations

import lightning.pytorch as L
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from slices.training.epoch_means import EpochMeans


class Logs(L.LightningModule):
    """Takes the mean and the greatest of each batch; the second only of batches that are full."""

    def __init__(self, loaded: dict[str, object] | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.means = EpochMeans()
        self.means.load_state_dict(loaded)
        self.saved: list[dict[str, object]] = []

    def on_train_start(self) -> None:
        self.means.resume(self)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        (x,) = batch
        # the first of an epoch begins anew, unless it goes on from what was loaded
        first = batch_idx == 0 and not (self.means.sums and self.current_epoch == 0)
        self.means.add({"mean": x.mean()}, len(x), first=first)
        if len(x) == 4:
            self.means.add({"most": x.max(), "least": x.min()}, len(x), first=False)
        self.saved.append(self.means.state_dict(self))
        return self.weight * x.mean()

    def on_train_epoch_end(self) -> None:
        self.means.log(self)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(module: Logs, x: Tensor, epochs: int = 1) -> dict[str, float]:
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(TensorDataset(x), batch_size=4))
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


def test_they_are_weighted_by_the_stays_of_a_batch_and_begin_anew_with_each_epoch() -> None:
    x = torch.arange(10.0)
    expected = {"mean": 4.5, "most": 5.0, "least": 2.0}  # the last batch has two stays
    for epochs in (1, 3):
        assert fit(Logs(), x, epochs) == pytest.approx(expected)


def test_an_epoch_goes_on_where_it_was_left() -> None:
    x = torch.randn(12, generator=torch.Generator().manual_seed(0))
    whole = Logs()
    expected = fit(whole, x)
    assert fit(Logs(loaded=whole.saved[1]), x[8:]) == expected  # bit for bit


def test_sums_of_several_ranks_go_on_in_one() -> None:
    x = torch.randn(12, generator=torch.Generator().manual_seed(0))
    expected = fit(Logs(), x)
    parts = []
    for part in (x[:4], x[4:8]):
        alone = Logs()
        fit(alone, part)
        parts.append(alone.saved[-1])
    of_ranks = [[*one, *other] for one, other in zip(*(part["sums"] for part in parts), strict=True)]  # type: ignore[call-overload]
    found = fit(Logs(loaded={"names": parts[0]["names"], "sums": of_ranks}), x[8:])
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"names": [["mean"]], "sums": []},
        *({"names": [["mean"]], "sums": [sums]} for sums in ([["a"]], [[1.0]])),
    ],
)
def test_sums_that_are_none_are_refused(state: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"slices\.means"):
        EpochMeans().load_state_dict({"names": [["mean"]], "sums": 0} | state)
