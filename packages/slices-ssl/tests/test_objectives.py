"""Every objective on every kind of encoder: it trains, it is deterministic given a draw, nothing leaks."""

from __future__ import annotations

import pytest
import torch
from torch.utils import _pytree as pytree

from slices.ssl import build_ssl_objective
from slices.ssl.encoding import complete

SHARED = {"d_input": 5, "static_columns": (0,)}
CONFIGS = {
    "mae": {"name": "mae"},
    "mae-block": {"name": "mae", "mask_mode": "block", "value_loss": "huber"},
    "mae-element": {"name": "mae", "mask_mode": "element"},
    "mae-variable": {"name": "mae", "mask_mode": "variable", "presence_weight": 0.1},
    "contrastive": {"name": "contrastive"},
    "mae-presence": {"name": "mae", "presence_weight": 1.0},
    "mae-mixed": {"name": "mae", "mask_mode": "mixed", "weighting": "variable", "presence_weight": 0.1},
    "temporal": {"name": "contrastive", "mode": "temporal"},
    "jepa": {"name": "jepa", "block_length": 2},
    "forecast": {"name": "forecast", "min_hours": 1.0},
    "time_to_event": {"name": "time_to_event", "min_hours": 1.0, "bins": (0.5, 1.0, 3.0)},
    "sum": {"name": "sum", "parts": {"mae": {}, "vicreg": {"weight": 0.1}, "contrastive": {}, "jepa": {}}},
    "one_view": {
        "name": "sum",
        "one_view": True,
        "parts": {
            "mae": {},
            "forecast": {"min_hours": 1.0},
            "time_to_event": {"min_hours": 1.0, "bins": (0.5, 1.0, 3.0)},
        },
    },
    **{
        name: {"name": name}
        for name in (
            "barlow_twins",
            "byol",
            "dino",
            "duett",
            "lejepa",
            "neighbourhood",
            "smart",
            "supervised_contrastive",
            "ts2vec",
            "vicreg",
        )
    },
}


ENCODERS = ["StepTokens", "ObservationTokens", "StepGRU", "PooledGRU", "OnlyX", "XAndMask"]
NEED_STEPS = ("temporal", "ts2vec")
COMPILED_IN_A_QUICK_RUN = ("mae", "jepa")
IN_A_QUICK_RUN = ("ObservationTokens", "PooledGRU")
PAIRS = [
    pytest.param(
        (encoder, name), marks=[] if encoder in IN_A_QUICK_RUN else pytest.mark.slow, id=f"{encoder}-{name}"
    )
    for encoder in ENCODERS
    for name in CONFIGS
    if not (encoder == "PooledGRU" and name in NEED_STEPS)
]


@pytest.fixture(params=PAIRS)
def objective(request, make):
    encoder, name = request.param
    return build_ssl_objective(make(encoder), {**SHARED, **CONFIGS[name]})


def test_it_trains(objective, batch):
    draw = objective.draw(*batch[:4], generator=torch.Generator().manual_seed(0))
    trained = {name: p for name, p in objective.named_parameters() if p.requires_grad}
    optimizer = torch.optim.Adam(trained.values(), lr=3e-3)
    losses = []
    for step in range(12):
        loss, _ = objective(*batch, draw=draw)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in trained.values())
        optimizer.step()
        if objective.config.name != "dino":  # its first centre makes the task another one, and harder
            objective.on_optimizer_step(step + 1, 12)
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_the_loss_is_a_scalar_and_metrics_are_detached_scalars(objective, batch):
    loss, metrics = objective(*batch)
    assert loss.shape == () and loss.requires_grad and loss.isfinite()
    assert all(m.shape == () and not m.requires_grad and m.isfinite() for m in metrics.values())


def test_given_a_draw_it_is_deterministic_and_leaves_the_batch_alone(objective, batch):
    before = pytree.tree_map(torch.clone, batch)
    draws = [objective.draw(*batch[:4], generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    losses = [objective(*batch, draw=draw)[0].item() for draw in draws]
    assert losses[0] == losses[1] != losses[2]
    assert all(torch.equal(a, b) for a, b in zip(before, batch, strict=True))


def test_what_is_not_observed_or_not_real_changes_nothing(objective, batch):
    draw = objective.draw(*batch[:4])
    observed = batch.mask & batch.padding_mask.unsqueeze(-1)
    other = batch._replace(
        x=torch.where(observed, batch.x, 9.0),
        mask=batch.mask | ~batch.padding_mask.unsqueeze(-1),
        counts=torch.where(observed, batch.counts, 9.0),
    )
    if type(objective.encoder).__name__ in {"StepTokens", "ObservationTokens"}:
        other = other._replace(times=torch.where(batch.padding_mask, batch.times, 99.0))
    assert torch.equal(objective(*batch, draw=draw)[0], objective(*other, draw=draw)[0])


def test_the_order_of_stays_changes_nothing(objective, batch):
    draw = objective.draw(*batch[:4])
    order = torch.randperm(8)
    shuffled = pytree.tree_map(lambda tensor: tensor[order], (batch, draw))
    loss, permuted = objective(*batch, draw=draw)[0], objective(*shuffled[0], draw=shuffled[1])[0]
    assert torch.allclose(loss, permuted, atol=1e-5)


@pytest.mark.parametrize("kept", [slice(5, 6), slice(6, 7), slice(7, 8), slice(5, 8)])
def test_stays_with_fewer_than_two_usable_steps_are_harmless(objective, batch, kept):
    loss, _ = objective(*(field[kept] for field in batch))
    loss.backward()
    gradients = [p.grad for p in objective.parameters() if p.grad is not None]
    assert loss.isfinite() and all(gradient.isfinite().all() for gradient in gradients)


def test_stays_with_fewer_than_two_usable_steps_do_not_count(objective, batch):
    draw = objective.draw(*batch[:4], generator=torch.Generator().manual_seed(0))
    few = pytree.tree_map(lambda tensor: tensor[:5], (batch, draw))
    loss = objective(*few[0], draw=few[1])[0]
    assert loss > 0 and torch.allclose(loss, objective(*batch, draw=draw)[0], rtol=1e-5, atol=1e-6)


def test_optional_inputs_may_be_left_out(objective, batch):
    loss, _ = objective(batch.x, batch.mask)
    assert loss.isfinite()


@pytest.mark.parametrize(
    ("encoder", "name"),
    [
        pytest.param("StepTokens", name, marks=[] if name in COMPILED_IN_A_QUICK_RUN else pytest.mark.slow)
        for name in CONFIGS
    ]
    + [pytest.param(encoder, "mae", marks=pytest.mark.slow) for encoder in ENCODERS[1:]],
)
@pytest.mark.filterwarnings("ignore:.*should not be instantiated")  # torch's, of autograd functions
@torch._dynamo.config.patch(allow_rnn=True)
def test_it_compiles_in_one_graph(encoder, name, make, batch):
    torch.compiler.reset()
    objective = build_ssl_objective(make(encoder), {**SHARED, **CONFIGS[name]})
    draw = objective.draw(*batch[:4])
    compiled = torch.compile(objective, fullgraph=True, backend="eager")
    loss, metrics = compiled(*batch, draw=draw)
    plain, plain_metrics = objective(*batch, draw=draw)
    assert torch.allclose(loss, plain)
    assert all(torch.allclose(metrics[name], plain_metrics[name]) for name in metrics)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.filterwarnings("ignore:.*should not be instantiated")  # torch's, of autograd functions
def test_its_gradient_compiles(name, make, batch):
    torch.compiler.reset()
    objective = build_ssl_objective(make("StepTokens"), {**SHARED, **CONFIGS[name]})
    draw = objective.draw(*batch[:4])
    compiled = torch.compile(objective, fullgraph=True, backend="aot_eager")
    trained = [p for p in objective.parameters() if p.requires_grad]
    found = torch.autograd.grad(compiled(*batch, draw=draw)[0], trained)
    wanted = torch.autograd.grad(objective(*batch, draw=draw)[0], trained)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, wanted, strict=True))


def test_it_runs_in_bfloat16(objective, batch):
    draw = objective.draw(*batch[:4])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = objective(*batch, draw=draw)
    assert loss.dtype == torch.float32
    assert torch.allclose(loss, objective(*batch, draw=draw)[0], rtol=0.05, atol=0.02)


@pytest.mark.parametrize("name", ["mae", "mae-block", "mae-element", "mae-variable", "jepa"])
def test_the_encoder_is_shown_nothing_hidden_and_all_statics(name, make, batch):
    encoder = make("Spy")
    objective = build_ssl_objective(encoder, {**SHARED, **CONFIGS[name]})
    draw = objective.draw(*batch[:4])
    objective(*batch, draw=draw)
    inputs, shown = complete(*batch), encoder.shown
    visible = inputs.mask & draw.keep
    for field in ("x", "mask", "counts"):
        given, dynamic = getattr(inputs, field), torch.where(visible, getattr(inputs, field), 0)
        assert torch.equal(shown[field][..., 1:], dynamic[..., 1:].to(given.dtype))
        assert torch.equal(shown[field][..., 0].sum(-1), given[..., 0].sum(-1))
    first = (shown["padding_mask"].cumsum(-1) == 1) & shown["padding_mask"]
    assert not shown["mask"][..., 0][~first].any()
    assert not shown["times"][~shown["padding_mask"]].any()
    dynamic = inputs.mask[..., 1:].any(-1)
    assert not (shown["padding_mask"] & dynamic & ~visible[..., 1:].any(-1)).any()


def test_views_show_their_share_of_steps_in_a_row(make, batch):
    encoder = make("Spy")
    config = {"name": "contrastive", "views": {"crop": 0.5, "drop_elements": 0.0, "jitter_values": 0.0}}
    objective = build_ssl_objective(encoder, config)
    inputs = complete(torch.ones(20, 12, 5), torch.ones(20, 12, 5, dtype=torch.bool))
    objective(*inputs)
    shown = encoder.shown["padding_mask"]
    assert shown.shape == (40, 12) and shown.sum(-1).eq(6).all()
    edges = (shown[:, 1:] & ~shown[:, :-1]).sum(-1) + shown[:, 0]
    assert edges.eq(1).all()
    assert not torch.equal(shown[:20], shown[20:])


def test_views_are_moved_in_time_as_a_whole(make):
    encoder = make("Spy")
    objective = build_ssl_objective(encoder, {"name": "contrastive", "views": {"shift_times": 6.0}})
    inputs = complete(torch.ones(20, 12, 5), torch.ones(20, 12, 5, dtype=torch.bool))
    objective(*inputs)
    real = encoder.shown["padding_mask"]
    shift = torch.where(real, encoder.shown["times"] - torch.arange(12.0), torch.nan)
    assert shift.nan_to_num(-9).amax(-1).allclose(shift.nan_to_num(9).amin(-1), atol=1e-5)
    assert 5 < shift.nan_to_num(0).abs().max() <= 6
    assert not shift[:20].nanmean(-1).allclose(shift[20:].nanmean(-1))


def test_every_view_of_a_stay_with_an_observation_shows_one(make, batch):
    encoder = make("Spy")
    config = {**SHARED, "name": "contrastive", "views": {"crop": 0.1, "drop_elements": 0.95}}
    build_ssl_objective(encoder, config)(*batch)
    usable = (complete(*batch).mask[..., 1:]).flatten(1).any(-1)
    assert torch.equal(encoder.shown["mask"][..., 1:].flatten(1).any(-1), usable.repeat(2))


def test_temporal_contrast_refuses_one_embedding_per_stay(make, batch):
    objective = build_ssl_objective(make("PooledGRU"), {"name": "contrastive", "mode": "temporal"})
    with pytest.raises(ValueError, match=r'needs an embedding per step.*PooledGRU.*pooling="none"'):
        objective(*batch)


def trained_accuracy(objective, batch, n_steps):
    """Of contrast, after some steps of training, over the last ten of them."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-2)
    accuracy = []
    for _ in range(n_steps):
        loss, metrics = objective(*batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        accuracy.append(metrics["accuracy"])
    return torch.stack(accuracy[-10:]).mean()


def with_statics(x, n_statics):
    """Stays observed at every step, with a few numbers of their own in their first columns."""
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[:, 1:, :n_statics] = False
    x[:, 0, :n_statics] = torch.randn(len(x), n_statics, generator=torch.Generator().manual_seed(0))
    return complete(x, mask)


def test_statics_do_not_tell_stays_apart(make):
    config = {
        "name": "contrastive",
        "d_input": 5,
        "static_columns": (0, 1, 2),
        "views": {"jitter_values": 1.0},
    }
    objective = build_ssl_objective(make("StepTokens"), config)
    batch = with_statics(torch.zeros(32, 8, 5), 3)  # the views' values are noise, each view's its own
    assert trained_accuracy(objective, batch, 80) < 0.1


@pytest.mark.slow
def test_statics_do_not_tell_steps_apart_by_the_hours_since_them(make):
    config = {
        "name": "contrastive",
        "mode": "temporal",
        "d_input": 2,
        "static_columns": (0,),
        "views": {"jitter_values": 0.0},
    }
    objective = build_ssl_objective(make("StepTokens", d_input=2), config)
    batch = with_statics(torch.zeros(32, 16, 2), 1)
    assert trained_accuracy(objective, batch, 150) < 0.5


@pytest.mark.parametrize("name", ["contrastive", "temporal"])
def test_one_of_two_views_drawn_by_lot_shows_the_statics(name, make, batch):
    encoder, inputs = make("Spy"), complete(*batch)
    objective = build_ssl_objective(encoder, {**SHARED, **CONFIGS[name]})
    seen = []
    for seed in range(8):
        objective(*batch, draw=objective.draw(*batch[:4], torch.Generator().manual_seed(seed)))
        for field in ("x", "mask", "counts"):
            views = encoder.shown[field][..., 0].sum(-1).view(2, -1)
            assert torch.equal(views.sum(0), getattr(inputs, field)[..., 0].sum(-1))
            assert (views == 0).any(0).all()
        first = (encoder.shown["padding_mask"].cumsum(-1) == 1) & encoder.shown["padding_mask"]
        assert not encoder.shown["mask"][..., 0][~first].any()
        seen.append(encoder.shown["mask"][..., 0].any(-1).view(2, -1)[0])
    share = torch.stack(seen)[:, inputs.mask[..., 0].any(-1)].float().mean()
    assert 0.3 < share < 0.7


@pytest.mark.parametrize("name", CONFIGS)
def test_the_weights_of_static_columns_are_trained(name, make, batch):
    objective = build_ssl_objective(make("StepTokens"), {**SHARED, **CONFIGS[name]})
    objective(*batch)[0].backward()
    of_value, of_mask, of_count = objective.encoder.embed.weight.grad[:, :15].unflatten(-1, (3, 5)).unbind(1)
    for gradient in (of_value, of_mask, of_count):
        assert gradient[:, 0].abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_trains_in_half_precision_weights(objective, batch, dtype):
    """As Lightning's ``bf16-true`` and ``16-true`` have it: weights and floating inputs alike."""
    draw = objective.draw(*batch[:4])
    expected = objective(*batch, draw=draw)[0]
    low = [field.to(dtype) if field.is_floating_point() else field for field in batch]
    loss, metrics = objective.to(dtype)(*low, draw=draw)
    loss.backward()
    assert all(value.isfinite() for value in metrics.values())
    assert torch.allclose(loss.float(), expected, rtol=0.1, atol=0.05)
