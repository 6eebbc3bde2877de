"""Layers against slow, obvious versions of themselves."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from slices.encoders.inputs import complete
from slices.encoders.layers import (
    Dropout,
    TimeEmbedding,
    TransformerBlock,
    attention_mask,
    bins_of_span,
    make_pooling,
    observed_cells,
)
from slices.encoders.tokens import Tokens, latest_tokens


def tokens_with_gaps() -> tuple[Tensor, Tensor]:
    valid = torch.tensor([[True, False, True, True, False], [True] * 5, [False] * 5])
    return torch.randn(3, 5, 4) * valid[..., None], valid


@pytest.mark.parametrize(
    ("name", "of_tokens"),
    [("mean", lambda h: h.mean(0)), ("max", lambda h: h.amax(0)), ("last", lambda h: h[-1])],
)
def test_pooling_sees_valid_tokens_only(name: str, of_tokens: object) -> None:
    embedding, valid = tokens_with_gaps()
    pooled = make_pooling(name, 4)(embedding, valid)
    for i in range(2):
        torch.testing.assert_close(pooled[i], of_tokens(embedding[i][valid[i]]))  # type: ignore[operator]
    assert (pooled[2] == 0).all()


def test_attention_pooling_is_a_mean_weighted_by_scores() -> None:
    embedding, valid = tokens_with_gaps()
    pool = make_pooling("attention", 4)
    pooled = pool(embedding, valid)
    for i in range(2):
        seen = embedding[i][valid[i]]
        torch.testing.assert_close(pooled[i], (pool.score(seen).softmax(0) * seen).sum(0))  # type: ignore[operator]
    assert (pooled[2] == 0).all()


def test_attention_mask_lets_see_valid_tokens_of_the_past() -> None:
    valid = torch.tensor([[True, True, False, True], [False] * 4])
    time = torch.tensor([[2.0, 0.5, 0.0, 2.0], [0.0] * 4])
    causal = attention_mask(valid, time, causal=True)
    for i in range(4):
        for j in range(4):
            before = (time[0, j], j) < (time[0, i], i)
            expected = i == j or bool(valid[0, j] and before)
            assert causal[0, 0, i, j] == expected
    assert attention_mask(valid, time, causal=False)[:, 0, 0].tolist() == [valid[0].tolist(), [True] * 4]
    assert causal.any(-1).all()


def test_block_equals_pytorchs() -> None:
    theirs = nn.TransformerEncoderLayer(
        8, 2, dim_feedforward=16, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    ours = TransformerBlock(8, 2, 16, dropout=0.0)
    names = {
        "self_attn.in_proj_": "qkv.", "self_attn.out_proj.": "out.", "norm1.": "attention_norm.",
        "norm2.": "feedforward.0.", "linear1.": "feedforward.1.", "linear2.": "feedforward.3.",
    }  # fmt: skip
    state = theirs.state_dict()
    ours.load_state_dict(
        {our + end: state[their + end] for their, our in names.items() for end in ("weight", "bias")}
    )
    tokens, valid = torch.randn(2, 5, 8), torch.tensor([[True] * 5, [True, True, False, True, False]])
    mask = attention_mask(valid, torch.zeros(2, 5), causal=False)
    expected = theirs(tokens, src_key_padding_mask=~valid)
    torch.testing.assert_close(ours(tokens, mask)[valid], expected[valid])


def test_time_embedding_waves() -> None:
    embed = TimeEmbedding(6, n_periods=3, shortest=1.0, longest=100.0)
    time = 2.3
    angles = [2 * math.pi * time / period for period in (1.0, 10.0, 100.0)]
    waves = torch.tensor([*map(math.sin, angles), *map(math.cos, angles)])
    torch.testing.assert_close(embed(torch.tensor([[time]]))[0, 0], embed.mix(waves), atol=1e-5, rtol=1e-5)


def test_time_embedding_tells_a_minute_from_the_next_after_weeks() -> None:
    embed = TimeEmbedding(8)
    now, next_minute = embed(torch.tensor([500.0, 500.0 + 1 / 60]))
    assert (now - next_minute).abs().amax() > 1e-3


@pytest.mark.parametrize("limit", [None, 4, 100])
def test_observed_cells_are_those_observed_statics_and_the_latest_first(limit: int | None) -> None:
    mask = torch.rand(3, 7, 4) < 0.4
    mask[2] = False
    mask[..., 1] = False
    mask[:2, 0, 1] = True
    static = torch.tensor([False, True, False, False])
    x = torch.arange(3 * 7 * 4.0).reshape(3, 7, 4)
    cells = observed_cells(mask, static, limit)
    for i in range(3):
        found = list(zip(*(t[i][cells.valid[i]].tolist() for t in (cells.step, cells.variable)), strict=True))
        every = [(t, d) for t in reversed(range(7)) for d in reversed(range(4)) if mask[i, t, d] and d != 1]
        wanted = ([(0, 1)] if mask[i, 0, 1] else []) + every
        assert found == wanted[: limit or len(wanted)]
        assert cells.of(x)[i][cells.valid[i]].tolist() == [x[i, t, d].item() for t, d in found]


def test_bins_hold_the_last_value_and_every_count(make_stays: Callable[..., dict[str, Tensor]]) -> None:
    stay = complete(**make_stays(b=3, t=20))
    bins = bins_of_span(stay, 4)
    for i in range(3):
        real = stay.padding_mask[i]
        times = stay.times[i][real]
        width = (times[-1] - times[0]) / 4
        place = ((times - times[0]) / width).long().clamp(max=3)
        for b in range(4):
            inside = torch.nonzero(real).flatten()[place == b]
            torch.testing.assert_close(bins.counts[i, b], stay.counts[i, inside].sum(0))
            assert bins.real[i, b] == bool(len(inside))
            for d in range(5):
                seen = inside[stay.mask[i, inside, d]]
                assert bins.mask[i, b, d] == bool(len(seen))
                assert bins.value[i, b, d] == (stay.x[i, seen[-1], d] if len(seen) else 0)
        torch.testing.assert_close(bins.start[i, 0], times[0])
        torch.testing.assert_close(bins.end[i, 3], times[-1])


@pytest.mark.parametrize("n_bins", [3, 7, 12, 32])
def test_a_step_on_a_border_is_beyond_it(n_bins: int) -> None:
    """However a division rounds: on a GPU steps lay in other bins than on a processor."""
    for span in range(1, 120):
        hours = torch.arange(span + 1).expand(1, -1)
        rounded = torch.where((hours > 0) & (hours < span), -1e-6 * span, 0.0)
        stay = complete(torch.ones(1, span + 1, 1), times=hours + rounded)
        place = (hours * n_bins // span).clamp(max=n_bins - 1)
        expected = torch.zeros(1, n_bins).scatter_add(1, place, torch.ones(1, span + 1))
        assert torch.equal(bins_of_span(stay, n_bins).counts.squeeze(-1), expected), span


def test_a_step_has_the_mean_of_the_latest_tokens() -> None:
    tokens = Tokens(
        torch.randn(1, 6, 3),
        torch.tensor([[True, True, False, True, True, True]]),
        torch.tensor([[2.0, 2.0, 3.0, 5.0, 0.0, 9.0]]),
        torch.tensor([[0, 3, 1, 0, -2, 2]]),
    )
    times, real = torch.tensor([[0.0, 2.0, 4.0, 5.0, 7.0]]), torch.tensor([[True, True, True, True, False]])
    steps = latest_tokens(tokens, times, real)[0]
    both = tokens.embedding[0, :2].mean(0)
    wanted = torch.stack([torch.zeros(3), both, both, tokens.embedding[0, 3], torch.zeros(3)])
    torch.testing.assert_close(steps, wanted)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_at_its_rate_at_every_place_of_a_draw(rate: float) -> None:
    ones = torch.ones(4000, 4, 3)
    out = Dropout(rate)(ones)
    kept = out != 0
    share = kept.float().view(-1, 4).mean(0)  # four numbers are drawn at once
    torch.testing.assert_close(share, torch.full((4,), 1 - rate), atol=0.02, rtol=0)
    together = torch.corrcoef(kept.float().view(-1, 4).T) - torch.eye(4)
    assert together.abs().max() < 0.05
    torch.testing.assert_close(out[kept], torch.full((int(kept.sum()),), 1 / (1 - rate)), rtol=2e-4, atol=0)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 7), (0, 4)])
def test_dropout_takes_any_shape_and_its_gradient_is_what_it_kept(shape: tuple[int, ...]) -> None:
    x = torch.ones(shape, dtype=torch.float64, requires_grad=True)
    out = Dropout(0.3)(x)
    out.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, out.detach())


def test_a_block_computes_the_rows_it_is_told_to() -> None:
    block, tokens = TransformerBlock(8, 2, 16, dropout=0.0), torch.randn(4, 3, 8)
    mask = attention_mask(torch.rand(4, 3) < 0.6, torch.arange(3.0).expand(4, 3), causal=False)
    out, every = block(tokens, mask, torch.tensor([0, 2])), block(tokens, mask)
    torch.testing.assert_close(out[[0, 2]], every[[0, 2]])
    assert torch.equal(out[[1, 3]], tokens[[1, 3]])
    torch.testing.assert_close(
        block.attention(tokens, mask, torch.tensor([0])), block.attention(tokens, mask)
    )


def test_dropout_is_seeded_and_off_in_evaluation() -> None:
    drop, x = Dropout(0.4), torch.randn(50, 3)
    torch.manual_seed(3)
    first = drop(x)
    torch.manual_seed(3)
    assert torch.equal(first, drop(x))
    assert not torch.equal(first, drop(x))
    assert torch.equal(drop.eval()(x), x)


@pytest.mark.parametrize("rate", [0.0, 1.0, 1e-9])
def test_dropout_of_nothing_and_of_all(rate: float) -> None:
    x = torch.randn(40)
    assert torch.equal(Dropout(rate)(x), x * (rate != 1.0))
