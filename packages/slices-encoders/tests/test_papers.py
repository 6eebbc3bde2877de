"""Each architecture against its paper's equations, written out slowly: one stay, loop by loop.

The stays have no padding and no statics unless a test says so; weights are the encoder's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slices.encoders import build_encoder
from slices.encoders.inputs import StayInputs, clocked_features, complete, log_days, step_features
from slices.encoders.layers import TransformerBlock
from slices.encoders.mamba import state_space

D, T = 5, 9


def built(name: str, **options: Any) -> Any:
    torch.manual_seed(1)
    encoder = build_encoder(name, {"d_input": D, "d_model": 12, "dropout": 0.0, **options}).eval()
    for parameter in encoder.parameters():  # none is left at 0 or 1, where it could not be missed
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return encoder


@pytest.fixture
def stay(make_stays: Callable[..., dict[str, Tensor]]) -> StayInputs:
    return complete(**make_stays(b=1, t=T, d=D, seed=3))


def given(stay: StayInputs) -> dict[str, Tensor]:
    return stay._asdict()


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-4)


def attended(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention of one head over N tokens, row by row: softmax(q k / sqrt(d)) v."""
    rows = []
    for i in range(len(q)):
        scores = torch.stack([q[i] @ k[j] / math.sqrt(q.shape[-1]) for j in range(len(k))])
        weights = torch.softmax(scores if bias is None else scores + bias[i], dim=0)
        rows.append(sum((weights[j] * v[j] for j in range(len(v))), torch.zeros_like(v[0])))
    return torch.stack(rows)


def block_of(block: TransformerBlock, tokens: Tensor) -> Tensor:
    """A pre-norm transformer block on the tokens (N, H) of one stay, all of them there."""
    q, k, v = block.qkv(block.attention_norm(tokens)).chunk(3, dim=-1)
    size = q.shape[-1] // block.n_heads
    heads = [attended(*(t[:, h * size : (h + 1) * size] for t in (q, k, v))) for h in range(block.n_heads)]
    tokens = tokens + block.out(torch.cat(heads, dim=-1))
    norm, first, _, second = block.feedforward
    return tokens + second(F.gelu(first(norm(tokens))))


def conv_at(weight: Tensor, bias: Tensor, steps: Tensor, t: int, places: list[int]) -> Tensor:
    """What a convolution gives at step t, which looks at these places; outside there is nothing."""
    out = bias.clone()
    for j, place in enumerate(places):
        if 0 <= place < len(steps):
            out = out + weight[:, :, j] @ steps[place]
    return out


def test_transformer(stay: StayInputs) -> None:
    encoder = built("transformer", pooling="none")
    tokens = (encoder.embed(step_features(stay)) + encoder.embed_time(stay.times))[0]
    for block in encoder.blocks:
        tokens = block_of(block, tokens)
    close(encoder(**given(stay))[0], encoder.norm(tokens))


def test_gru_d(stay: StayInputs) -> None:
    """Che et al. 2018, eqs. 2 and 8 to 14."""
    encoder = built("gru_d", pooling="none")
    x, m, s = stay.x[0], stay.mask[0], stay.times[0] / 24
    h = torch.zeros(12)
    last, delta = torch.zeros(D), torch.zeros(D)
    w, u_zr, u = encoder.of_input, encoder.of_gates.weight, encoder.of_candidate.weight
    for t in range(T):
        if t:  # eq. 2
            delta = torch.where(m[t - 1], s[t] - s[t - 1], s[t] - s[t - 1] + delta)
        gamma_x = torch.exp(-torch.clamp(encoder.decay_rate * delta + encoder.decay_bias, min=0))
        gamma_h = torch.exp(-torch.clamp(encoder.forget(delta), min=0))
        imputed = torch.where(m[t], x[t], gamma_x * last + (1 - gamma_x) * 0.0)
        h = gamma_h * h
        z, r, proposed = w(torch.cat((imputed, m[t].float()))).chunk(3)
        u_z, u_r = u_zr.chunk(2)
        z, r = torch.sigmoid(z + u_z @ h), torch.sigmoid(r + u_r @ h)
        h = (1 - z) * h + z * torch.tanh(proposed + u @ (r * h))
        last = torch.where(m[t], x[t], last)
        close(encoder(**given(stay))[0, t], h)


def test_tcn(stay: StayInputs) -> None:
    """Bai et al. 2018, eq. of section 3.2 and figure 1 (b)."""
    encoder = built("tcn", pooling="none", n_layers=3)
    steps = clocked_features(stay)[0]

    def conv(layer: Any, steps: Tensor, dilation: int) -> Tensor:
        norm = layer.conv.weight.flatten(1).norm(dim=1)[:, None, None]
        weight = layer.length * layer.conv.weight / norm
        places = [[t - dilation * (2 - j) for j in range(3)] for t in range(T)]
        return torch.stack([conv_at(weight, layer.conv.bias, steps, t, places[t]) for t in range(T)])

    for i, block in enumerate(encoder.blocks):
        inner = torch.relu(conv(block.second, torch.relu(conv(block.first, steps, 2**i)), 2**i))
        steps = torch.relu(inner + block.skip(steps))
    close(encoder(**given(stay))[0], steps)


def test_ts2vec(stay: StayInputs) -> None:
    """Yue et al. 2022, section 3.2."""
    encoder = built("ts2vec", n_layers=3, d_hidden=8)
    steps = encoder.project(clocked_features(stay)[0])

    def conv(layer: Any, steps: Tensor, dilation: int) -> Tensor:
        places = [[t + dilation * (j - 1) for j in range(3)] for t in range(T)]
        weight, bias = layer.conv.weight, layer.conv.bias
        return torch.stack([conv_at(weight, bias, steps, t, places[t]) for t in range(T)])

    for i, block in enumerate(encoder.blocks):
        inner = conv(block.second, F.gelu(conv(block.first, F.gelu(steps), 2**i)), 2**i)
        steps = inner + block.skip(steps)
    close(encoder(**given(stay))[0], steps.amax(0))


def test_observation_transformer(stay: StayInputs) -> None:
    """Tipirneni & Reddy 2022, sections 3.3 and 3.4: one token a triplet, fused by attention."""
    encoder = built("observation_transformer")
    triplets = [(t, d) for t in range(T) for d in range(D) if stay.mask[0, t, d]]

    def embedded(net: Any, number: Tensor) -> Tensor:
        return net.outer.weight @ torch.tanh(net.inner.weight[:, 0] * number + net.inner.bias)

    tokens = torch.stack(
        [
            embedded(encoder.of_value, stay.x[0, t, d])
            + embedded(encoder.of_time, stay.times[0, t] / 24)
            + embedded(encoder.of_count, stay.counts[0, t, d].log())
            + encoder.of_variable.weight[d]
            for t, d in triplets
        ]
    )
    for block in encoder.blocks:
        tokens = block_of(block, tokens)
    tokens = encoder.norm(tokens)
    first, _, second = encoder.pool.score
    weights = torch.softmax(torch.stack([second(torch.tanh(first(token)))[0] for token in tokens]), dim=0)
    close(encoder(**given(stay))[0], sum(w * token for w, token in zip(weights, tokens, strict=True)))


def test_mtand(stay: StayInputs) -> None:
    """Shukla & Marlin 2021, eqs. 1 to 4, then a GRU over the reference times."""
    encoder = built("mtand", n_reference=6, d_time=8, n_heads=2)
    x, m, times = stay.x[0], stay.mask[0], stay.times[0]

    def phi(time: Tensor) -> Tensor:
        angle = (
            encoder.interpolate.embed_time.phase.weight[:, 0] * time / 24
            + encoder.interpolate.embed_time.phase.bias
        )
        return torch.cat((angle[:1], torch.sin(angle[1:])))

    reference = encoder.reference.clamp(0, 1).sort().values
    rows = []
    for share in reference:
        query = encoder.interpolate.query(phi(times[0] + share * (times[-1] - times[0])))
        means = []
        for h in range(2):
            part = slice(4 * h, 4 * h + 4)
            for d in range(D):
                seen = [t for t in range(T) if m[t, d]]
                if not seen:
                    means.append(torch.tensor(0.0))
                    continue
                keys = [encoder.interpolate.key(phi(times[t])) for t in seen]
                scores = torch.stack([query[part] @ key[part] / 2.0 for key in keys])
                means.append(torch.softmax(scores, 0) @ x[seen, d])
        rows.append(encoder.mix(torch.cat((torch.stack(means), m.any(0).float()))))
    h = torch.zeros(12)
    rnn = encoder.rnn
    for row in rows:
        of_input = rnn.weight_ih_l0 @ row + rnn.bias_ih_l0
        of_state = rnn.weight_hh_l0 @ h + rnn.bias_hh_l0
        (ri, zi, ni), (rh, zh, nh) = of_input.chunk(3), of_state.chunk(3)
        r, z = torch.sigmoid(ri + rh), torch.sigmoid(zi + zh)
        h = (1 - z) * torch.tanh(ni + r * nh) + z * h
    close(encoder(**given(stay))[0], h)


def test_patch_transformer(stay: StayInputs) -> None:
    """Nie et al. 2023, section 3.1: patches of each variable by themselves."""
    encoder = built("patch_transformer", patch=4)
    features = step_features(stay)[0].reshape(T, 4, D)
    found = []
    for d in range(D):
        tokens = []
        for start in range(0, T, 4):
            if not stay.mask[0, start : start + 4, d].any():
                continue
            since = log_days(stay.times[0, start : start + 4] - stay.times[0, start])
            steps = torch.cat((features[start : start + 4, :, d], since[:, None]), dim=1)
            steps = F.pad(steps, (0, 0, 0, max(0, start + 4 - T)))
            token = encoder.embed(steps.T.flatten()) + encoder.embed_variable.weight[d]
            tokens.append(token + encoder.embed_time(stay.times[0, start]))
        row = torch.stack(tokens)
        for block in encoder.blocks:
            row = block_of(block, row)
        found.append(encoder.norm(row))
    close(encoder(**given(stay))[0], torch.cat(found).mean(0))


def test_mamba(stay: StayInputs) -> None:
    """Gu & Dao 2023, eq. 2 with the scalar A of a head (Dao & Gu 2024): step after step."""
    encoder = built("mamba", pooling="none", d_head=6, d_state=3, n_layers=1)
    (block,) = encoder.blocks
    tokens = encoder.embed(clocked_features(stay))[0]
    gate, mixed, step = block.project(rms(block.norm, tokens)).split(block.sizes, dim=-1)
    weight = block.conv.conv.weight[:, 0]
    conv = [
        sum((weight[:, j] * mixed[t - 3 + j] for j in range(4) if t - 3 + j >= 0), block.conv.conv.bias)
        for t in range(T)
    ]
    inputs, write, read = F.silu(torch.stack(conv)).split([24, 3, 3], dim=-1)
    inputs = inputs.reshape(T, 4, 6)
    state = torch.zeros(4, 6, 3)
    out = []
    for t in range(T):
        size = F.softplus(step[t] + block.step_bias)
        hours = stay.times[0, t] - stay.times[0, t - 1] if t else torch.tensor(0.0)
        fade = torch.exp(-torch.exp(block.log_rate) * size * hours)
        for head in range(4):
            state[head] = fade[head] * state[head] + size[head] * torch.outer(inputs[t, head], write[t])
        seen = state @ read[t] + block.through[:, None] * inputs[t]
        out.append(block.out(rms(block.out_norm, seen.flatten() * F.silu(gate[t]))))
    close(encoder(**given(stay))[0], rms(encoder.norm, tokens + torch.stack(out)))


def rms(norm: nn.RMSNorm, x: Tensor) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight


def test_a_state_space_in_chunks_is_the_recurrence() -> None:
    """Steps of several chunks, the last of them not full."""
    t, heads, width, size = 23, 2, 3, 4
    inputs, write, read = torch.randn(1, t, heads, width), torch.randn(1, t, size), torch.randn(1, t, size)
    fade = -torch.rand(1, t, heads)
    state, wanted = torch.zeros(heads, width, size), []
    for i in range(t):
        state = torch.exp(fade[0, i])[:, None, None] * state + inputs[0, i][:, :, None] * write[0, i]
        wanted.append(state @ read[0, i])
    for chunk in (4, 5, 64):
        close(state_space(inputs, fade, write, read, chunk)[0], torch.stack(wanted))


def test_a_long_gap_leaves_a_state_space_its_digits() -> None:
    """What comes after a state has faded is as it is without that state."""
    t = 12
    inputs, write, read = torch.randn(1, t, 2, 3), torch.randn(1, t, 4), torch.randn(1, t, 4)
    fade = -torch.rand(1, t, 2)
    fade[:, 3] = -1e6
    for chunk in (3, 64):
        after = state_space(*(part[:, 3:] for part in (inputs, fade, write, read)), chunk)
        torch.testing.assert_close(state_space(inputs, fade, write, read, chunk)[:, 3:], after)


def test_smart(stay: StayInputs) -> None:
    """Yu et al. 2024, eqs. 3 to 5."""
    encoder = built("smart", n_heads=3)
    x, m = stay.x[0], stay.mask[0].float()
    tokens = torch.stack(
        [
            torch.cat(
                (
                    encoder.summary[d][None],
                    encoder.embed(torch.stack((x[:, d], m[:, d]), dim=-1))
                    + encoder.embed_time(stay.times[0]),
                )
            )
            for d in range(D)
        ]
    )
    there = torch.cat((torch.ones(1, D), m)).T  # of the summary and each step
    heads = [slice(4 * h, 4 * h + 4) for h in range(3)]
    for block in encoder.blocks:
        normed = block.time_norm(tokens)
        for d in range(D):
            q, k, v = block.time_qkv(normed[d]).chunk(3, dim=-1)
            bias = there[d][:, None] + there[d][None]
            seen = torch.cat([attended(q[:, h], k[:, h], v[:, h], bias) for h in heads], dim=-1)
            tokens = torch.cat((tokens[:d], (tokens[d] + block.time_out(seen))[None], tokens[d + 1 :]))
        normed = block.variable_norm(tokens)
        query, key = block.variable_qk(normed).chunk(2, dim=-1)
        value = block.variable_v(normed)
        keys = torch.stack(
            [
                sum(there[d, s] * key[d, s] for s in range(T + 1)) / there[d].sum()  # type: ignore[misc]
                for d in range(D)
            ]
        )
        seen = torch.zeros_like(tokens)
        for h in heads:
            scores = query[:, 0, h] @ keys[:, h].T / 2.0
            weights = torch.softmax(scores, dim=-1)
            for d in range(D):
                for s in range(T + 1):
                    seen[d, s, h] = sum(weights[d, e] * value[e, s, h] for e in range(D))  # type: ignore[assignment]
        tokens = tokens + block.variable_out(seen)
        tokens = tokens + block.feedforward(tokens)
    tokens = encoder.norm(tokens)
    close(encoder(**given(stay))[0], encoder.join(tokens[:, 0].flatten()))


def test_duett(stay: StayInputs) -> None:
    """Labach et al. 2023, sections 3.1 and 3.2; its code has the last value and the count of each bin."""
    encoder = built("duett", static_columns=(1,), n_bins=4, d_token=6, d_hidden=5, d_ff=7)
    stay.mask[0, :, 1] = torch.arange(T) == 0
    stay = complete(*stay)
    times, columns = stay.times[0], [0, 2, 3, 4]
    start, width = times[0], (times[-1] - times[0]) / 4
    value, count = torch.zeros(4, D), torch.zeros(4, D)
    for t in range(T):
        place = min(int((times[t] - start) / width), 3)
        for d in range(D):
            if stay.mask[0, t, d]:
                value[place, d] = stay.x[0, t, d]
                count[place, d] += stay.counts[0, t, d]
    cells = torch.zeros(5, 5, 6)
    net = encoder.embed_values
    for b in range(4):
        for i, d in enumerate(columns):
            counted = encoder.embed_count.weight[min(int(count[b, d]), 15), 0]
            inner = torch.relu(net.inner[i] @ torch.stack((value[b, d], counted)) + net.inner_bias[i])
            cells[b, i] = net.outer[i] @ inner + net.outer_bias[i]
        cells[b, 4] = encoder.embed_statics(torch.stack((stay.x[0, 0, 1], torch.tensor(1.0))))
    cells[4] = encoder.summary
    when = [encoder.of_time((start + width * (b + 1)) / 24) for b in range(4)] + [encoder.of_summary]
    for over_events, over_times in zip(encoder.over_events, encoder.over_times, strict=True):
        series = torch.stack([cells[:, i].flatten() for i in range(5)])
        cells = block_of(over_events, series + encoder.of_column).reshape(5, 5, 6).transpose(0, 1)
        moments = torch.stack([cells[b].flatten() + when[b] for b in range(5)])
        cells = block_of(over_times, moments).reshape(5, 5, 6)
    summary = encoder.out(encoder.norm(cells[4].flatten()).reshape(5, 6))
    close(encoder(**given(stay))[0], encoder.join(summary.flatten()))


def test_flowsheet(stay: StayInputs) -> None:
    """Our own: what its docstring says."""
    encoder = built("flowsheet", n_bins=4)
    x, m, counts, times = stay.x[0], stay.mask[0], stay.counts[0], stay.times[0]
    start, width = times[0], (times[-1] - times[0]) / 4
    place = [min(int((time - start) / width), 3) for time in times]
    value, count = torch.zeros(4, D), torch.zeros(4, D)
    for t in range(T):
        value[place[t]] = torch.where(m[t], x[t], value[place[t]])
        count[place[t]] += counts[t]
    tokens = []
    for d in range(D):
        seen = x[m[:, d], d]
        if not len(seen):
            continue
        since = times[-1] - times[m[:, d]][-1]
        numbers = [
            seen.mean(),
            (seen.var(correction=0) + 1e-6).sqrt(),
            seen.min(),
            seen.max(),
            seen[0],
            seen[-1],
        ]
        numbers += [torch.tensor(1.0), torch.log1p(counts[:, d].sum()), torch.log1p(since) / math.log(25)]
        features = torch.cat(
            (value[:, d], (count[:, d] > 0).float(), count[:, d].log1p(), torch.stack(numbers))
        )
        tokens.append(encoder.embed_row(features) + encoder.embed_variable.weight[d])
    latest, age = torch.zeros(D), torch.zeros(D)
    for b in range(4):
        end = start + width * (b + 1)
        for d in range(D):
            known = [k for k in range(b + 1) if count[k, d] > 0]
            latest[d] = value[known[-1], d] if known else 0.0
            age[d] = torch.log1p((b - (known[-1] if known else 0)) * width) / math.log(25)
        features = torch.cat((latest, (count[b] > 0).float(), count[b].log1p(), age))
        if b in place:
            tokens.append(encoder.embed_column(features) + encoder.embed_time(end))
    row = torch.stack(tokens)
    for block in encoder.blocks:
        row = block_of(block, row)
    close(encoder(**given(stay))[0], encoder.norm(row).mean(0))


def test_every_architecture_is_here() -> None:
    """But those that are torch's own recurrence, or a linear map."""
    from slices.encoders import list_encoders

    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert set(list_encoders()) - {"gru", "lstm", "linear"} <= tested
