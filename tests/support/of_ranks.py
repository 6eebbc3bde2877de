"""Trains the same module on some ranks or on one, with the same global batches and draws.

As a script it is one rank, ``python of_ranks.py <strategy> <rank> <ranks> <out> <configs as JSON>``, which
writes, for each config, the losses of steps and the weights in the end. Rank r of W has rows r, r + W ...
of each batch, as ``StaySampler`` gives them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader

from slices.training import SSLPretrainModule
from slices.training.finite import FiniteGuard
from slices.training.sharding import FSDP2, Sharded, whole_state

N_STEPS, BATCH, T, D = 3, 8, 10, 5
Batch = dict[str, Tensor]


def batches() -> list[Batch]:
    """Stays that are observed more and more often, and one not at all, so that ranks see unequal numbers."""
    made = []
    for step in range(N_STEPS):
        random = torch.Generator().manual_seed(step)
        x = torch.randn(BATCH, T, D, generator=random)
        often = torch.linspace(0.1, 0.9, BATCH).view(-1, 1, 1)
        mask = torch.rand(BATCH, T, D, generator=random) < often
        mask[2] = False
        label = torch.tensor([0.0, 1, 1, 0, 1, 1, 0, 1])
        made.append({"timeseries": x, "mask": mask, "label": label, "label_mask": torch.ones(BATCH) > 0})
    return made


def train(config: dict[str, Any], strategy: str, rank: int, ranks: int) -> dict[str, Any]:
    """One config, on rank ``rank``: its losses, averaged over ranks, and the weights after the last step.

    Gradients are clipped at its ``clip``, where it has one. Where it is ``poisoned``, the second stay of the
    second batch overflows, and the step is left out.
    """
    config = dict(config)
    clip, poisoned = config.pop("clip", None), config.pop("poisoned", False)
    L.seed_everything(0, verbose=False)
    module = SSLPretrainModule(config)
    draw, share = module.objective.draw, slice(rank, None, ranks)
    whole, step = batches(), iter(range(N_STEPS))
    if poisoned:
        whole[1]["timeseries"][1] = 1e30

    def given(x: Tensor, *_: Any) -> Any:
        """What is drawn for the global batch, of which this rank takes its rows."""
        number = next(step)
        batch = whole[number]
        drawn = draw(batch["timeseries"], batch["mask"], None, None, torch.Generator().manual_seed(number))
        return pytree.tree_map(lambda tensor: tensor[share], drawn)

    module.objective.draw = given  # type: ignore[method-assign]
    losses: list[Tensor] = []

    class Losses(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
            losses.append(trainer.strategy.reduce(outputs["loss"].detach().clone(), reduce_op="mean"))

    trainer = L.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy=Sharded() if strategy == FSDP2 else strategy,
        precision="32-true",
        max_epochs=1,
        gradient_clip_val=clip,
        callbacks=[Losses(), FiniteGuard("skip")] if poisoned else [Losses()],
        use_distributed_sampler=False,
        **dict.fromkeys(
            ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
        ),
    )
    shares = [{name: value[share] for name, value in batch.items()} for batch in whole]
    with compiled_without_a_compiler(), warnings.catch_warnings(action="ignore"):  # there is no validation
        trainer.fit(module, DataLoader(shares, batch_size=None))  # type: ignore[arg-type]
    return {
        "losses": torch.stack(losses),
        "mean": trainer.callback_metrics["train/loss"],
        "graphs": torch.tensor(torch._dynamo.utils.counters["stats"]["unique_graphs"]),
        **whole_state(module),
    }


@contextmanager
def compiled_without_a_compiler() -> Iterator[None]:
    """``training.compile`` makes graphs, forward and backward, but no code of them, which takes minutes."""
    original = nn.Module.compile

    def compiled(module: nn.Module, mode: str) -> None:
        original(module, backend="aot_eager")

    nn.Module.compile = compiled  # type: ignore[assign, method-assign]
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    try:
        yield
    finally:
        nn.Module.compile = original  # type: ignore[method-assign]


def of_ranks(
    strategy: str, ranks: int, folder: Path, configs: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Tensor]]:
    """Starts so many ranks, and gives what rank 0 wrote, by the name of the config; one is this process."""
    if ranks == 1:
        return {name: train(config, strategy, 0, 1) for name, config in configs.items()}
    out = folder / f"{strategy}{ranks}.pt"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    running = []
    for rank in range(ranks):
        own = environment | {"LOCAL_RANK": str(rank)}
        words = [strategy, str(rank), str(ranks), str(out), json.dumps(configs)]
        running.append(subprocess.Popen([sys.executable, __file__, *words], env=own, cwd=folder))
    assert [process.wait(timeout=600) for process in running] == [0] * ranks
    found: dict[str, dict[str, Tensor]] = torch.load(out, weights_only=True)
    return found


def _free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def main() -> None:
    strategy, rank, ranks, out, configs = sys.argv[1:]
    torch.set_num_threads(1)
    found = {
        name: train(config, strategy, int(rank), int(ranks)) for name, config in json.loads(configs).items()
    }
    if int(rank) == 0:
        torch.save(found, out)


if __name__ == "__main__":
    main()
