"""Means of what each step gives, taken by the epoch: a few sums a step, and one look at them when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor


class EpochMeans:
    """Weighted means of named scalars over an epoch and over all ranks, also of one that was resumed midway.

    >>> means = EpochMeans()
    >>> means.add({"loss": torch.tensor(1.0)}, weight=3, first=True)
    >>> means.add({"loss": torch.tensor(2.0)}, weight=1, first=False)
    >>> means.sums["loss",].tolist()
    [5.0, 4.0]
    """

    def __init__(self) -> None:
        self.sums: dict[tuple[str, ...], Tensor] = {}
        """Of values with these names, each times its weight; the last is the sum of the weights."""
        self._loaded: Mapping[str, Any] | None = None

    def add(self, values: Mapping[str, Tensor], weight: int, *, first: bool) -> None:
        """Takes scalars of one device, without waiting for it; begins anew with the first of an epoch."""
        if first:
            self.sums.clear()
        given = torch.stack([value.detach().float() for value in values.values()])
        sums = self.sums.setdefault(tuple(values), given.new_zeros(len(values) + 1))
        sums[:-1].add_(given, alpha=weight)
        sums[-1:].add_(weight)

    def log(self, module: L.LightningModule) -> None:
        """Logs the means over all ranks, and begins anew. To be called on every rank."""
        for names, sums in self.sums.items():
            of_all: Tensor = module.trainer.strategy.reduce(sums, reduce_op="sum")
            means = of_all[:-1] / of_all[-1]
            module.log_dict(dict(zip(names, means, strict=True)), sync_dist=True)  # the same on every rank
        self.sums.clear()

    def state_dict(self, module: L.LightningModule) -> dict[str, Any]:
        """The sums of each rank, as plain lists. To be called on every rank."""
        gather = module.trainer.strategy.all_gather
        of_ranks = [gather(sums).reshape(-1, len(sums)).tolist() for sums in self.sums.values()]
        return {"names": [list(names) for names in self.sums], "sums": of_ranks}

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Takes what ``resume`` goes on from."""
        self._loaded = state

    def resume(self, module: L.LightningModule) -> None:
        """Goes on from what was loaded: each rank from its own, or rank 0 from all, if not as many."""
        state, self._loaded = self._loaded or {"names": [], "sums": []}, None
        self.sums.clear()
        rank, n_ranks = module.global_rank, module.trainer.world_size
        for names, of_ranks in zip(state["names"], state["sums"], strict=True):
            sums = torch.tensor(of_ranks, device=module.device)
            if len(sums) != n_ranks:
                sums = torch.cat([sums.sum(0, keepdim=True), sums.new_zeros(n_ranks - 1, sums.shape[1])])
            self.sums[tuple(names)] = sums[rank]


def log_rate(module: L.LightningModule, batch_idx: int) -> None:
    """Logs the learning rate of the step to come, where there is a schedule."""
    if module.trainer.lr_scheduler_configs and _is_shown(module.trainer, batch_idx):
        module.log("lr", module.trainer.optimizers[0].param_groups[0]["lr"])


def log_loss(module: L.LightningModule, loss: Tensor, batch_idx: int) -> None:
    """Logs the loss of the step that was."""
    if _is_shown(module.trainer, batch_idx):
        module.log("train/loss_step", loss, prog_bar=True)


def _is_shown(trainer: L.Trainer, batch_idx: int) -> bool:
    """Does Lightning hand on what this step logs? An epoch's first is for the progress bar."""
    return batch_idx == 0 or trainer._logger_connector.should_update_logs
