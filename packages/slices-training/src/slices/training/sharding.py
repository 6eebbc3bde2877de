"""Fully sharded training: each rank keeps a share of the model, where one device cannot hold it all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from slices.encoders import BaseEncoder
from slices.training.activation_checkpointing import blocks_of
from slices.training.errors import UserError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

FSDP2 = "fsdp2"  # trainer.strategy


def shard(parts: Sequence[nn.Module], mesh: DeviceMesh, *, also_called: Sequence[str] = ()) -> None:
    """Each rank keeps its share of every parameter, gradient and state of the optimizer.

    Block by block of its encoders, they are gathered where they are needed, and let go (Zhao et al., "PyTorch
    FSDP", 2023, in its second version, ``fully_shard``). What is sharded already is left as it is.

    Args:
        parts: all modules with parameters, each of which is called itself.
        mesh: the ranks.
        also_called: methods of the parts, besides ``forward``, which use parameters.
    """
    for part in parts:
        if isinstance(part, FSDPModule) or not any(True for _ in part.parameters()):
            continue
        for encoder in [module for module in part.modules() if isinstance(module, BaseEncoder)]:
            for block in blocks_of(encoder):
                fully_shard(block, mesh=mesh)
        fully_shard(part, mesh=mesh)
        for method in also_called:
            register_fsdp_forward_method(part, method)


class Sharded(ModelParallelStrategy):
    """Lightning's strategy for what ``shard`` does, over all ranks that there are.

    A checkpoint is one file, written by rank 0: a folder of shares is read by way of pickle, which could run
    code.
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()


def refuse_with_sharding(**settings: float | None) -> None:
    """Raises ``UserError`` for the first of these settings that is given, and not 0."""
    for name, value in settings.items():
        if value:
            raise UserError(
                f"training.{name}={value:g} wants whole weights: use trainer.strategy=ddp with it"
            )


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module, of one that is sharded put together again. All ranks must ask for it."""
    state = module.state_dict()
    return {
        name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in state.items()
    }


def is_sharded(module: nn.Module) -> bool:
    """Has ``shard`` been at it, at a module within it, or at one that it is in?"""
    parts = [*module.modules(), *module.parameters()]
    return any(isinstance(part, FSDPModule | DTensor) for part in parts)
