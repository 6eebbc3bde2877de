"""Two gloo ranks, each with half of the batch and of the draw, give the value and gradient of one process.

Run as a script, this file is one rank.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.utils import _pytree as pytree

from slices.ssl import build_ssl_objective

CONFIGS = {
    "mae": {"name": "mae", "presence_weight": 0.1},
    "contrastive": {"name": "contrastive"},
    "temporal": {"name": "contrastive", "mode": "temporal"},
    "jepa": {"name": "jepa"},
}


def run(config, share=slice(None)):
    """Loss, metrics and gradients from the stays of ``share``; the two halves observe unequally."""
    torch.manual_seed(0)
    encoder = nn.Linear(5, 8)
    encoder.output_dim = 8
    objective = build_ssl_objective(encoder, {**config, "d_input": 5}).double()
    x = torch.randn(8, 10, 5).double()
    mask = torch.rand(8, 10, 5) < torch.linspace(0.1, 0.9, 8).view(-1, 1, 1)
    mask[2] = False
    draw = objective.draw(x, mask, generator=torch.Generator().manual_seed(0))
    x, mask, draw = pytree.tree_map(lambda tensor: tensor[share], (x, mask, draw))
    loss, metrics = objective(x, mask, draw=draw)
    loss.backward()
    gradients = [p.grad for p in objective.parameters() if p.grad is not None]
    return [loss.detach(), *(metrics[name] for name in sorted(metrics) if name == "accuracy"), *gradients]


def run_as_rank(rank, rendezvous, out):
    """Average over ranks, as DDP does, and save."""
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    results = {name: run(config, slice(4 * rank, 4 * rank + 4)) for name, config in CONFIGS.items()}
    for tensor in pytree.tree_leaves(results):
        dist.all_reduce(tensor)
        tensor /= 2
    if rank == 0:
        torch.save(results, out)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def of_two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, __file__, str(folder / "rendezvous"), str(folder / "out.pt")]
    ranks = [subprocess.Popen([*command, str(rank)]) for rank in range(2)]
    assert [process.wait(timeout=120) for process in ranks] == [0, 0]
    return torch.load(folder / "out.pt", weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_two_ranks_are_one_process(name, of_two_ranks):
    for got, wanted in zip(of_two_ranks[name], run(CONFIGS[name]), strict=True):
        assert torch.allclose(got, wanted, rtol=1e-5, atol=1e-7)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_as_rank(int(sys.argv[3]), Path(sys.argv[1]), Path(sys.argv[2]))
