"""Means of what each step gives, taken by the epoch: a few sums a step, and one look at them when it ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor

from slices.encoders.files import brief
from slices.training.ranges import OnNonfinite


class EpochMeans:
    """Weighted means of named scalars over an epoch and over all ranks, which have the same names.

    With its state in a checkpoint an epoch goes on where it was left. With ``finite_only`` a step of which a
    value is not finite counts nothing.

    >>> means = EpochMeans()
    >>> means.add({"loss": torch.tensor(1.0)}, weight=3, first=True)
    >>> means.add({"loss": torch.tensor(2.0)}, weight=1, first=False)
    >>> means.sums["loss",].tolist()
    [5.0, 4.0]
    """

    def __init__(self, *, finite_only: bool = False) -> None:
        self.finite_only = finite_only
        self.sums: dict[tuple[str, ...], Tensor] = {}
        """Of values that came with these names, each times its weight; the last is the sum of the weights."""
        self.last: dict[str, Tensor] = {}
        """The values that came last."""
        self._is_logged = False
        self._loaded: dict[tuple[str, ...], Tensor] = {}

    def add(self, values: Mapping[str, Tensor], weight: int, *, first: bool) -> None:
        """Takes scalars of one device, without waiting for it; begins anew with the first of an epoch."""
        if first:
            self._begin()
        self.last = {name: value.detach() for name, value in values.items()}
        given, names = torch.stack([value.float() for value in self.last.values()]), tuple(values)
        given = torch.cat([given, given.new_ones(1)])
        if self.finite_only:
            given = torch.where(given.isfinite().all(), given, 0)
        if names not in self.sums:
            self.sums[names] = torch.zeros_like(given)
        self.sums[names].add_(given, alpha=weight)

    def log(self, module: L.LightningModule) -> None:
        """Logs the means over all ranks, once an epoch. To be called on every rank."""
        if self._is_logged or not self.sums:
            return
        self._is_logged = True
        of_names: dict[str, Tensor] = {}
        for names, sums in self.sums.items():
            for name, value in zip(names, sums, strict=False):
                of_names[name] = of_names.get(name, 0) + torch.stack([value, sums[-1]])
        of_all: Tensor = module.trainer.strategy.reduce(torch.stack([*of_names.values()]), reduce_op="sum")
        means = dict(zip(of_names, of_all[:, 0] / of_all[:, 1], strict=True))
        # the same on every rank already
        module.log_dict(means, on_step=False, on_epoch=True, sync_dist=True, batch_size=1)

    def end(self, module: L.LightningModule) -> None:
        """Logs the means, unless they are already, and forgets them."""
        self.log(module)
        self._begin()

    def state_dict(self, module: L.LightningModule) -> dict[str, Any]:
        """The sums of each rank, as plain lists. To be called on every rank."""
        of_ranks = [
            module.trainer.strategy.all_gather(sums).reshape(-1, len(sums)).tolist()
            for sums in self.sums.values()
        ]
        return {"names": [list(names) for names in self.sums], "sums": of_ranks}

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Takes what ``resume`` goes on from. Raises ``ValueError`` for what ``state_dict`` did not give."""
        state = state or {"names": [], "sums": []}
        try:
            self._loaded = {
                tuple(map(str, names)): torch.tensor(of_ranks, dtype=torch.float32).view(-1, len(names) + 1)
                for names, of_ranks in zip(state["names"], state["sums"], strict=True)
            }
        except Exception as error:  # whatever states that nobody wrote lead to
            raise ValueError(f"its slices.means are not sums of each rank: {brief(error)}") from error

    def resume(self, module: L.LightningModule) -> None:
        """Goes on from what was loaded, each rank from its own; rank 0 from all if they are not as many."""
        loaded, self._loaded = self._loaded, {}
        self._begin()
        rank, n_ranks = module.global_rank, module.trainer.world_size
        for names, of_ranks in loaded.items():
            sums = of_ranks.to(module.device)
            if len(sums) != n_ranks:
                sums = torch.cat([sums.sum(0, keepdim=True), sums.new_zeros(n_ranks - 1, sums.shape[1])])
            self.sums[names] = sums[rank]

    def _begin(self) -> None:
        self.sums.clear()
        self._is_logged = False


def means_of(stages: Iterable[str], on_nonfinite: OnNonfinite) -> dict[str, EpochMeans]:
    """One for each stage; that of training leaves out the steps that training does."""
    skips = on_nonfinite == "skip"
    return {stage: EpochMeans(finite_only=skips and stage == "train") for stage in stages}
