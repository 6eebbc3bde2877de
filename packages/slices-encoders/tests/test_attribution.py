"""Attributions that add up, and attention maps that are what the encoder computes with."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from slices.encoders import (
    attention_maps,
    build_encoder,
    integrated_gradients,
    list_encoders,
)

Stays = dict[str, Tensor]
ATTENTIVE = {
    "transformer": {"blocks.0", "blocks.1"},
    "flowsheet": {"blocks.0", "blocks.1"},
    "observation_transformer": {"pool", "blocks.0", "blocks.1"},
    "patch_transformer": {"blocks.0", "blocks.1"},
    "smart": {f"blocks.{i}.{over}" for i in (0, 1) for over in ("time", "variables")},
    "duett": {f"over_{what}.{i}" for i in (0, 1) for what in ("events", "times")},
    "mtand": {"interpolate"},
}
QUICK = ("linear", "gru", "flowsheet")


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in list_encoders()],
)
def test_attributions_add_up_to_the_score(name: str, stays: Stays) -> None:
    """Completeness: Sundararajan et al. 2017, proposition 1. Kinks of a ReLU make the sum coarser."""
    torch.manual_seed(0)
    encoder = build_encoder(name, {"d_input": 5, "d_model": 8, "static_columns": (0,)}).eval()
    head = nn.Linear(encoder.output_dim, 1)

    def score(embedding: Tensor) -> Tensor:
        return head(embedding)[:, 0]

    found = integrated_gradients(score, encoder, **stays, n_steps=60)
    assert (found[~stays["mask"]] == 0).all() and (found[stays["mask"]] != 0).any()
    with torch.no_grad():
        whole = score(encoder(**stays)) - score(encoder(**stays | {"x": torch.zeros_like(stays["x"])}))
    torch.testing.assert_close(found.sum((1, 2)), whole, atol=5e-3, rtol=3e-2)
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_an_encoder_of_somebody_else_is_attributed_too() -> None:
    class Theirs(nn.Module):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return (x * mask).sum(1)

    x, mask = torch.randn(2, 4, 3), torch.rand(2, 4, 3) < 0.5
    found = integrated_gradients(lambda h: h[:, 1], Theirs().eval(), x, mask)
    torch.testing.assert_close(found, x * mask * torch.tensor([0.0, 1.0, 0.0]))


def test_what_cannot_be_attributed_is_said() -> None:
    encoder = build_encoder("linear", {"d_input": 3, "d_model": 4})
    with pytest.raises(ValueError, match="train mode"):
        integrated_gradients(lambda h: h[:, 0], encoder, torch.randn(2, 4, 3))
    with pytest.raises(ValueError, match="n_steps must be at least 1, got 0"):
        integrated_gradients(lambda h: h[:, 0], encoder.eval(), torch.randn(2, 4, 3), n_steps=0)
    with pytest.raises(ValueError, match="one number a stay"):
        integrated_gradients(lambda h: h, encoder.eval(), torch.randn(2, 4, 3))


@pytest.mark.parametrize("name", list_encoders())
def test_attention_maps_are_weights_and_nothing_is_changed(name: str, stays: Stays) -> None:
    encoder = build_encoder(name, {"d_input": 5, "d_model": 8, "static_columns": (0,)}).eval()
    before = encoder(**stays)
    maps = attention_maps(encoder, **stays)
    assert torch.equal(before, encoder(**stays))
    assert maps.keys() == ATTENTIVE.get(name, set())
    for weights in maps.values():
        assert (weights >= 0).all() and weights.isfinite().all()
        some = weights.sum(-1)[0]  # a stay with observations
        torch.testing.assert_close(some, torch.ones_like(some))


def test_maps_in_train_mode_are_refused(stays: Stays) -> None:
    with pytest.raises(ValueError, match=r"encoder.eval\(\)"):
        attention_maps(build_encoder("transformer", {"d_input": stays["x"].shape[-1]}), **stays)


def test_a_map_is_what_mixes_the_values(stays: Stays) -> None:
    encoder = build_encoder(
        "transformer", {"d_input": 5, "d_model": 8, "n_layers": 1, "pooling": "none"}
    ).eval()
    (weights,) = attention_maps(encoder, **stays).values()
    tokens = encoder.tokenize(**stays).embedding  # type: ignore[operator]
    (block,) = encoder.blocks  # type: ignore[misc, union-attr]
    _, _, v = block._heads(block.attention_norm(tokens))
    mixed = block.out((weights @ v).transpose(1, 2).flatten(-2))
    wanted = tokens + mixed
    wanted = encoder.norm(wanted + block.feedforward(wanted))  # type: ignore[operator]
    real = stays["padding_mask"]
    torch.testing.assert_close(encoder(**stays)[real], wanted[real])
    assert (weights[1][:, :, ~real[1]] == 0).all()  # padding is given nothing
