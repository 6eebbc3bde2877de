"""Blocks that are computed twice: the same numbers, and less that is kept."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from slices.encoders import build_encoder
from slices.training import FineTuneModule, SSLPretrainModule
from slices.training.activation_checkpointing import blocks_of, recompute_blocks
from slices.training.errors import UserError

BLOCKY = ("transformer", "flowsheet", "smart", "duett", "tcn", "ts2vec", "mamba", "observation_transformer")


def kept_bytes(run: Callable[[], Tensor]) -> int:
    """Of all that autograd keeps for the backward pass, which is then run; what is kept twice counts once."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = run()
    loss.backward()
    return sum(kept.values())


@pytest.mark.parametrize("name", BLOCKY)
def test_the_same_gradients_from_less_memory(name: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(name, {"d_input": 6, "d_model": 16, "n_layers": 4, "dropout": 0.2})
    frugal = copy.deepcopy(encoder)
    assert recompute_blocks(frugal) == len(blocks_of(encoder)) >= 4
    x, mask = torch.randn(8, 24, 6), torch.rand(8, 24, 6) < 0.5
    losses, kept = [], []
    for one in (encoder.train(), frugal.train()):

        def run(one: nn.Module = one) -> Tensor:
            torch.manual_seed(1)  # dropout, also of what is computed again
            loss: Tensor = one(x, mask=mask).square().sum()
            losses.append(loss.detach())
            return loss

        kept.append(kept_bytes(run))
    assert torch.equal(*losses)
    for (key, ours), theirs in zip(encoder.named_parameters(), frugal.parameters(), strict=True):
        assert ours.grad is None or torch.allclose(ours.grad, theirs.grad), key
    assert kept[1] < 0.7 * kept[0]


def test_weights_keep_their_names() -> None:
    encoder = build_encoder("transformer", {"d_input": 5, "d_model": 8, "n_heads": 2})
    names = list(encoder.state_dict())
    recompute_blocks(encoder)
    assert list(encoder.state_dict()) == names


def test_the_modules_take_it_from_their_config() -> None:
    encoder = {"name": "transformer", "d_input": 5, "d_model": 8, "n_heads": 2}
    training = {"activation_checkpointing": True}
    pretraining = SSLPretrainModule(
        {"encoder": encoder, "ssl": {"name": "jepa"}, "optimizer": {"name": "adamw"}, "training": training}
    )
    finetuning = FineTuneModule(
        {"encoder": encoder, "training": training | {"freeze_encoder": False}, "optimizer": {"name": "adamw"}}
    )
    for module in (pretraining, finetuning):
        blocks = blocks_of(module.get_encoder())
        assert blocks and all("forward" in vars(block) for block in blocks)
    loss, _ = pretraining(torch.randn(4, 9, 5), torch.rand(4, 9, 5) < 0.5)
    loss.backward()
    assert all(p.grad is not None for p in blocks_of(pretraining.get_encoder())[0].parameters())


def test_a_recurrent_net_has_none() -> None:
    with pytest.raises(UserError, match="activation_checkpointing: GRUEncoder has no blocks"):
        recompute_blocks(build_encoder("gru", {"d_input": 5, "d_model": 8}))
