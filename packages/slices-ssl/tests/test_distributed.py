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

from slices.ssl import build_ssl_objective, list_objectives
from slices.ssl.encoding import accepted_inputs

CONFIGS = {
    **{name: {"name": name} for name in list_objectives() if name not in ("sum", "mae", "forecast")},
    "mae": {"name": "mae", "presence_weight": 0.1},
    "balanced": {"name": "mae", "weighting": "variable", "mask_mode": "mixed"},
    "temporal": {"name": "contrastive", "mode": "temporal"},
    "forecast": {"name": "forecast", "min_hours": 3.0},
    "sum": {"name": "sum", "parts": {"mae": {}, "vicreg": {"weight": 0.1}, "contrastive": {}, "dino": {}}},
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
    label = torch.tensor([0.0, 1, 1, 0, 1, torch.nan, 0, 1])
    x, mask, draw, label = pytree.tree_map(lambda tensor: tensor[share], (x, mask, draw, label))
    labels = {"label": label} if "label" in accepted_inputs(objective) else {}
    loss, metrics = objective(x, mask, draw=draw, **labels)
    loss.backward()
    gradients = [p.grad for p in objective.parameters() if p.grad is not None]
    same_everywhere = [metrics[name] for name in sorted(metrics) if name in ("accuracy", "teacher_entropy")]
    return [loss.detach(), *same_everywhere, *gradients, *buffers_after_a_step(objective)]


def buffers_after_a_step(objective):
    """Running statistics, centres, directions: what every rank must have alike."""
    objective.on_optimizer_step(1, 10)
    return [buffer.double() for buffer in objective.buffers() if buffer.is_floating_point()]


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


@pytest.mark.slow  # some of them are compared through the Trainer in a quick run
@pytest.mark.parametrize("name", CONFIGS)
def test_two_ranks_are_one_process(name, of_two_ranks):
    for got, wanted in zip(of_two_ranks[name], run(CONFIGS[name]), strict=True):
        assert torch.allclose(got, wanted, rtol=1e-5, atol=1e-7)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run_as_rank(int(sys.argv[3]), Path(sys.argv[1]), Path(sys.argv[2]))
