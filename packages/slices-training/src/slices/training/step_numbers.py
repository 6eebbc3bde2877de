"""The few numbers by which a step is judged, read without waiting for them where that can be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer


class StepNumbers(NamedTuple):
    """Of a step: scale of a scaler, norm of the gradients, losses of the batches as they are backpropagated.

    ``values`` are sums over ranks, and so not finite where one rank's is not.
    """

    values: Tensor
    ranks: int
    scaled: bool
    arrival: torch.cuda.Event | None = None

    @classmethod
    def of(cls, trainer: Trainer, optimizer: Optimizer, losses: Sequence[Tensor]) -> StepNumbers:
        """To be called on every rank, when gradients are unscaled."""
        norm = _norm([p.grad for group in optimizer.param_groups for p in group["params"]])
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        scale = [] if scaler is None else [scaler.scale(torch.ones_like(norm))]
        values = torch.stack([*scale, norm, *(loss.float() for loss in losses)])
        if trainer.world_size > 1:  # not by way of the strategy, which first waits for all ranks
            dist.all_reduce(values)
        return cls(values, trainer.world_size, scaler is not None)

    def on_their_way(self) -> StepNumbers:
        """The same, being copied to the processor."""
        if not self.values.is_cuda:
            return self
        values, arrival = self.values.to("cpu", non_blocking=True), torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrival.record()
        return self._replace(values=values, arrival=arrival)

    def read(self) -> tuple[list[float], float, float]:
        """Losses, norm and scale, means over ranks."""
        if self.arrival is not None:
            self.arrival.synchronize()
        values = [value / self.ranks for value in self.values.tolist()]
        scale = values.pop(0) if self.scaled else 1.0
        norm, *losses = values
        return [loss / scale for loss in losses], norm, scale


def _norm(gradients: Sequence[Tensor | None]) -> Tensor:
    """Of all gradients together; of those that are sharded, of this rank's share."""
    own = [g.to_local() if isinstance(g, DTensor) else g for g in gradients if g is not None]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(own, 2, torch.float32)))
    return norm
