"""Every objective trains every encoder, also one that is not ours."""

from __future__ import annotations

from itertools import cycle, product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from quick import trainer_for
from slices.encoders import build_encoder, list_encoders
from slices.ssl import BaseSSLObjective, build_ssl_objective, list_objectives
from slices.ssl.encoding import complete, pool_stay
from slices.ssl.health import Health, collapse
from slices.training import SSLPretrainModule

B, T, D, H = 8, 12, 6, 16


class Foreign(nn.Module):
    """Ten lines of somebody else's."""

    output_dim = H

    def __init__(self, pooled: bool) -> None:
        super().__init__()
        self.gru = nn.GRU(2 * D, H, batch_first=True)
        self.pooled = pooled

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        steps: Tensor = self.gru(torch.cat([x, mask.to(x)], -1))[0]
        return steps[:, -1] if self.pooled else steps


def encoder_of(name: str) -> nn.Module:
    if name.startswith("foreign"):
        return Foreign(pooled=name.endswith("pooled"))
    return build_encoder(name, encoder_config(name))


def encoder_config(name: str) -> dict[str, Any]:
    own = {"observation_transformer": {"max_observations": T * D}}.get(name, {})
    return {"d_input": D, "d_model": H, "n_layers": 1, "static_columns": [D - 1], **own}


@torch.no_grad()
def health_of(objective: BaseSSLObjective) -> Health:
    """Of the embeddings of some stays, whole, early and late."""
    many = [stays(seed) for seed in range(4)]
    whole = {name: torch.cat([batch[name] for batch in many]) for name in many[0]}
    objective.encoder.eval()
    halves = zip(*(field.chunk(2, dim=1) for field in whole.values()), strict=True)
    early, late = (dict(zip(whole, half, strict=True)) for half in halves)
    rows = [pool_stay(objective.encode(complete(**batch))) for batch in (whole, early, late)]
    objective.encoder.train()
    return Health.of(*rows)


def config_of(objective_name: str) -> dict[str, Any]:
    own = {"sum": {"parts": {"mae": {}, "vicreg": {"weight": 0.1}, "barlow_twins": {}, "forecast": {}}}}
    return {"name": objective_name, "d_input": D, "static_columns": [D - 1], **own.get(objective_name, {})}


def stays(seed: int = 0) -> dict[str, Tensor]:
    """A batch with statics, padding and an empty stay, of a slow wave that is worth learning."""
    generator = torch.Generator().manual_seed(seed)
    phase = 6 * torch.rand(B, 1, D, generator=generator)
    x = torch.sin(phase + 0.5 * torch.arange(T).reshape(1, T, 1))
    mask = torch.rand(B, T, D, generator=generator) < 0.6
    mask[..., -1] = False
    mask[:, 0, -1] = True  # a static
    padding_mask = torch.ones(B, T, dtype=torch.bool)
    padding_mask[1, 8:] = False
    mask[2] = False
    mask &= padding_mask.unsqueeze(-1)
    times = torch.arange(T, dtype=torch.float32).expand(B, T) * padding_mask
    return {"x": x * mask, "mask": mask, "padding_mask": padding_mask, "times": times, "counts": mask.float()}


# in a quick run: every encoder once and every objective once, and one of somebody else's with every objective
DIAGONAL = set(zip(cycle(list_encoders()), list_objectives(), strict=False))


def pairs(*foreign: str) -> Any:
    """Marks a test to be run with every encoder and every objective."""
    every = product([*list_encoders(), *foreign], list_objectives())
    marked = [
        pair if pair in DIAGONAL or pair[0] == "foreign" else pytest.param(*pair, marks=pytest.mark.slow)
        for pair in every
    ]
    return pytest.mark.parametrize(("encoder_name", "objective_name"), marked)


class NoSync(TorchDispatchMode):
    """Refuses what would wait for a GPU: reading a number, or a shape that depends on the data."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name()
        waits = (
            "aten::_local_scalar_dense",
            "aten::nonzero",
            "aten::masked_select",
            "aten::item",
            "aten::equal",
        )
        assert not name.startswith(waits), f"{name} waits for the device"
        return func(*args, **(kwargs or {}))


@pairs()
def test_no_step_waits_for_the_device(
    objective_name: str, encoder_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # packing goes the way that it goes on a GPU
    monkeypatch.setattr("slices.encoders.device.reading_is_cheap", lambda tensor: False)
    config = config_of(objective_name)
    objective = build_ssl_objective(encoder_of(encoder_name), config).train()
    batch = stays()
    inputs = [batch[name] for name in ("x", "mask", "padding_mask", "times")]
    generator = torch.Generator().manual_seed(1)
    with NoSync():
        loss, _ = objective(**batch, draw=objective.draw(*inputs, generator))
        loss.backward()
        objective.on_optimizer_step(1, 10)


@pairs()
def test_every_pair_trains_in_half_precision_weights(objective_name: str, encoder_name: str) -> None:
    """As Lightning's ``bf16-true`` has it: weights and floating inputs alike."""
    config = config_of(objective_name)
    objective = build_ssl_objective(encoder_of(encoder_name), config).bfloat16()
    batch = {name: t.bfloat16() if t.is_floating_point() else t for name, t in stays().items()}
    loss, _ = objective(**batch)
    loss.backward()
    assert loss.isfinite()


def test_the_guard_against_waiting_sees_it() -> None:
    with pytest.raises(AssertionError, match="waits for the device"), NoSync():
        torch.ones(2).sum().item()


@pairs("foreign", "foreign_pooled")
def test_every_pair_trains(objective_name: str, encoder_name: str) -> None:
    torch.manual_seed(0)
    objective = build_ssl_objective(encoder_of(encoder_name), config_of(objective_name)).train()
    if (objective_name, encoder_name) == ("ts2vec", "foreign_pooled"):
        with pytest.raises(ValueError, match="needs an embedding per step"):
            objective(**stays())
        return
    before = {name: p.detach().clone() for name, p in objective.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=3e-3)
    batch = stays()
    inputs = [batch[name] for name in ("x", "mask", "padding_mask", "times")]
    draw = objective.draw(*inputs, torch.Generator().manual_seed(1))
    untouched = {name: tensor.clone() for name, tensor in batch.items()}
    losses, start = [], health_of(objective)
    for step in range(12):
        loss, metrics = objective(**batch, draw=draw)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if objective_name != "dino":  # its first centre makes the task another one, and harder
            objective.on_optimizer_step(step + 1, 12)
        losses.append(loss.item())
        assert all(value.ndim == 0 and not value.requires_grad for value in metrics.values())
    assert all(torch.equal(untouched[name], batch[name]) for name in batch)
    assert torch.tensor(losses).isfinite().all()
    assert min(losses[-3:]) < losses[0]
    assert collapse(health_of(objective), start) is None
    after = dict(objective.named_parameters())
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    # all that is trained moves, but for a pooling that the objective does not use
    assert all("pool" in name for name in set(before) - set(moved)), set(before) - set(moved)
    assert any(name.startswith("encoder.") for name in moved)


def trained(encoder_name: str, objective_name: str, folder: Path) -> dict[str, Tensor]:
    """All state of a module after two steps, dropout and all that is drawn included."""
    torch.manual_seed(0)
    config = {
        "encoder": {"name": encoder_name, **encoder_config(encoder_name)},
        "ssl": config_of(objective_name),
        "optimizer": {"name": "adamw"},
        "labels": "a task" if objective_name == "supervised_contrastive" else None,
    }
    module = SSLPretrainModule(config)
    about = {"label": torch.arange(B) % 2, "label_mask": torch.ones(B, dtype=torch.bool)}
    batches = [{"timeseries" if name == "x" else name: t for name, t in stays(i).items()} for i in range(2)]
    loader = DataLoader([batch | about for batch in batches], batch_size=None)  # type: ignore[arg-type]
    trainer_for(folder).fit(module, loader)
    return module.state_dict()


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:You defined a .validation_step.")
@pairs()
def test_every_pair_trained_twice_is_the_same(encoder_name: str, objective_name: str, tmp_path: Path) -> None:
    one, other = (trained(encoder_name, objective_name, tmp_path) for _ in range(2))
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
