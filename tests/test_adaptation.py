"""Ways to adapt a pretrained encoder: what learns, where it begins, what is left in the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import polars as pl
import pytest
import torch
from omegaconf import DictConfig
from torch import nn

from adapting import adapting
from cli import CommandLine
from quick import choose, trainer_for
from slices.encoders import build_encoder
from slices.training import FineTuneModule
from slices.training.adaptation.averaging import average_checkpoints
from slices.training.adaptation.config import FineTuningConfig
from slices.training.adaptation.fitting import Fitting
from slices.training.adaptation.hiding import hide
from slices.training.adaptation.lora import LowRank, add_lora, merged
from slices.training.compose import options
from slices.training.errors import UserError


def trained(module: FineTuneModule) -> set[str]:
    """The layers of the encoder that have anything to learn."""
    names = [name for name, parameter in module.encoder.named_parameters() if parameter.requires_grad]
    return {".".join(name.split(".")[: 1 + name.startswith("blocks")]) for name in names}


def test_layers_join_from_the_highest_on_and_move_from_then_on(
    pretrained: Path, finetune_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    how = {"unfreeze_epoch": 1, "unfreeze_every": 2}
    module, data = adapting(finetune_config, tiny, pretrained, **how)
    seen: list[tuple[set[str], set[str]]] = []

    class Watch(L.Callback):
        def on_train_epoch_start(self, trainer: L.Trainer, *args: Any) -> None:
            self.before = {name: p.detach().clone() for name, p in module.encoder.named_parameters()}

        def on_train_epoch_end(self, trainer: L.Trainer, *args: Any) -> None:
            moved = {
                name for name, p in module.encoder.named_parameters() if not torch.equal(p, self.before[name])
            }
            layers = {".".join(name.split(".")[: 1 + name.startswith("blocks")]) for name in moved}
            seen.append((trained(module), layers))

    trainer_for(tmp_path, max_epochs=6, callbacks=[Watch()]).fit(module, datamodule=data)
    highest = {"blocks.1", "norm", "embed_time"} & {"blocks.1", "norm"}
    for layers, moved in seen:
        assert layers == moved
    assert seen[0][0] == set()
    assert seen[1][0] == seen[2][0] == highest
    assert seen[3][0] == seen[4][0] == highest | {"blocks.0"}
    assert {"embed", "blocks.0"} < seen[5][0]


def test_an_encoder_without_layers_cannot_be_unfrozen_by_layers(
    finetune_config: DictConfig, tiny: Any
) -> None:
    finetune_config = choose(finetune_config, encoder="linear")
    with pytest.raises(UserError, match="LinearEncoder states no layers"):
        adapting(finetune_config, tiny, None, unfreeze_epoch=0, unfreeze_every=1)


def test_lora_begins_as_the_encoder_and_is_merged_into_plain_weights() -> None:
    torch.manual_seed(0)
    encoder = build_encoder("transformer", {"d_input": 5, "d_model": 16, "n_layers": 1, "n_heads": 2}).eval()
    x, mask = torch.randn(3, 6, 5), torch.rand(3, 6, 5) > 0.5
    before, names = encoder(x, mask), list(encoder.state_dict())
    learned = add_lora(encoder, rank=2, layers=["blocks.*"])
    torch.testing.assert_close(encoder(x, mask), before, rtol=0, atol=0)
    assert len(learned) == 8 and all(name.startswith("blocks.0.") for name in learned)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if name in learned:
                parameter.normal_()
    after, plain = encoder(x, mask), merged(encoder)
    assert not torch.allclose(after, before, atol=1e-2)
    torch.testing.assert_close(plain(x, mask), after)
    assert sorted(plain.state_dict()) == sorted(names)


def test_a_low_rank_change_has_its_rank_and_scale() -> None:
    layer = torch.nn.Linear(6, 5)
    weight = layer.weight.detach().clone()
    add_lora(layer, rank=2, alpha=6.0, layers=[""])
    a, b = layer.parametrizations.weight[0].a, layer.parametrizations.weight[0].b  # type: ignore[index, union-attr]
    with torch.no_grad():
        b.normal_()
    change = layer.weight - weight
    torch.testing.assert_close(change, 3.0 * b @ a)
    assert torch.linalg.matrix_rank(change, tol=1e-5) == 2


def test_lora_leaves_the_pretrained_weights_and_gives_a_plain_model(
    pretrained: Path, finetune_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    module, data = adapting(finetune_config, tiny, pretrained, lora_rank=2, lora_layers=["*qkv", "*out"])
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    trainer = trainer_for(tmp_path, max_epochs=2)
    trainer.fit(module, datamodule=data)
    moved = {
        name for name, p in module.encoder.named_parameters() if not torch.equal(p, before[f"encoder.{name}"])
    }
    assert len(moved) == 8 and all(name.endswith((".a", ".b")) for name in moved)
    trainer.save_checkpoint(tmp_path / "lora.ckpt")
    again = FineTuneModule.load_from_checkpoint(tmp_path / "lora.ckpt", weights_only=True).eval()
    batch = data.cut(data.splits["test"])
    probs = again.predict_step(batch, 0)["probs"]
    torch.testing.assert_close(probs, module.eval().predict_step(batch, 0)["probs"], rtol=0, atol=0)
    plain = merged(again.encoder)
    assert not [name for name in plain.state_dict() if "parametrizations" in name]


def test_lora_beside_layers_that_nobody_trained(
    pretrained: Path, finetune_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    """A pooling that is new learns all its weights, also in a checkpoint that is loaded without the file."""
    config = choose(finetune_config, encoder="transformer")
    config.encoder = {"d_model": 16, "n_layers": 2, "n_heads": 2, "pooling": "attention"}
    module, data = adapting(config, tiny, pretrained, lora_rank=2)
    trainer = trainer_for(tmp_path)
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(tmp_path / "lora.ckpt")
    again = FineTuneModule.load_from_checkpoint(tmp_path / "lora.ckpt", weights_only=True)
    for one in (module, again):
        learns = {name for name, p in one.encoder.named_parameters() if p.requires_grad}
        assert "pool.score.0.parametrizations.weight.original" in learns and "pool.score.0.bias" in learns
        assert "blocks.0.qkv.parametrizations.weight.original" not in learns
    batch = data.cut(data.splits["test"])
    one, other = (part.eval().predict_step(batch, 0)["probs"] for part in (module, again))
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_layer_that_is_not_there_is_named() -> None:
    encoder = build_encoder("gru", {"d_input": 5, "d_model": 8})
    with pytest.raises(UserError, match=r"lora_layers: 'qkv' is no linear layer of .*there are "):
        add_lora(encoder, rank=2, layers=["qkv"])


def test_the_pull_keeps_weights_near_where_they_began(
    pretrained: Path, finetune_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    distance = []
    for strength in (0.0, 100.0):
        module, data = adapting(finetune_config, tiny, pretrained, freeze_encoder=False, l2_sp=strength)
        before = torch.cat([p.detach().clone().flatten() for p in module.encoder.parameters()])
        trainer_for(tmp_path, max_epochs=5).fit(module, datamodule=data)
        distance.append(
            (torch.cat([p.detach().flatten() for p in module.encoder.parameters()]) - before).norm()
        )
    assert distance[1] < 0.5 * distance[0]
    assert module.start is not None
    trainer = trainer_for(tmp_path)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "pulled.ckpt")
    again = FineTuneModule.load_from_checkpoint(tmp_path / "pulled.ckpt", weights_only=True)
    assert again.start is not None
    torch.testing.assert_close(again.start(again.encoder), module.start(module.encoder))  # not from here anew
    assert float(again.start(again.encoder).detach()) > 0


def test_a_pull_to_nowhere_is_refused(
    finetune_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    module, data = adapting(
        choose(finetune_config, encoder="gru"), tiny, None, freeze_encoder=False, l2_sp=0.1
    )
    with pytest.raises(UserError, match="there is no checkpoint"):
        trainer_for(tmp_path).fit(module, datamodule=data)


def test_what_is_hidden_is_whole_steps_and_variables_at_their_rate() -> None:
    torch.manual_seed(0)
    b, t, d = 400, 10, 8
    batch = {
        "timeseries": torch.ones(b, t, d),
        "mask": torch.ones(b, t, d, dtype=torch.bool),
        "counts": torch.ones(b, t, d),
        "padding_mask": torch.ones(b, t, dtype=torch.bool),
    }
    static = torch.zeros(d, dtype=torch.bool)
    static[0] = True
    hidden = hide(batch, 0.3, 0.2, static)
    mask = hidden["mask"]
    assert mask[..., 0].all() and hidden["padding_mask"].all() and batch["mask"].all()
    for name in ("timeseries", "counts"):
        assert torch.equal(hidden[name], mask.float())
    steps, variables = mask[..., 1:].any(2, keepdim=True), mask[..., 1:].any(1, keepdim=True)
    assert torch.equal(mask[..., 1:], steps & variables)
    assert (
        abs(float((~steps).float().mean()) - 0.3) < 0.03
        and abs(float((~variables).float().mean()) - 0.2) < 0.03
    )
    assert len(set(map(str, steps[:20].tolist()))) > 10  # each stay its own


def test_only_training_batches_are_hidden(
    finetune_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    how = {"freeze_encoder": False, "hide_steps": 0.5, "hide_variables": 0.25}
    module, data = adapting(choose(finetune_config, encoder="gru"), tiny, None, **how)
    observed: dict[bool, list[float]] = {True: [], False: []}
    module.encoder.register_forward_pre_hook(
        lambda part, args, kwargs: observed[part.training].append(float(kwargs["mask"].float().mean())),
        with_kwargs=True,
    )
    trainer_for(tmp_path, max_epochs=1).fit(module, datamodule=data)
    plain = [float(batch["mask"].float().mean()) for batch in data.loader("val")]
    assert observed[False] == pytest.approx(plain)
    assert max(observed[True]) < 0.6 * min(plain)


def test_averaged_weights_are_the_mean_of_the_best_epochs(
    finetune_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    how: dict[str, Any] = {"freeze_encoder": False, "average_best": 2, "max_epochs": 4}
    module, data = adapting(choose(finetune_config, encoder="gru"), tiny, None, "length_of_stay", **how)
    fitting = Fitting(module, module.config.training, data, tmp_path / "checkpoints")
    trainer = trainer_for(
        tmp_path,
        max_epochs=4,
        callbacks=fitting.callbacks,
        enable_checkpointing=True,
        limit_train_batches=None,
    )
    path, score = fitting.fit(trainer)
    kept = sorted(tmp_path.glob("checkpoints/best-*.ckpt"))
    assert len(kept) == 2 and path.endswith("average.ckpt")
    states = [torch.load(each, weights_only=True)["state_dict"] for each in kept]
    average = torch.load(path, weights_only=True)["state_dict"]
    for name, value in average.items():
        torch.testing.assert_close(value, torch.stack([state[name] for state in states]).mean(0))
    (validated,) = trainer.validate(module, datamodule=data, ckpt_path=path, weights_only=True, verbose=False)
    assert validated["val/loss"] == pytest.approx(score)


def test_nothing_to_average_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint to average"):
        average_checkpoints([], tmp_path / "average.ckpt")


def test_without_two_classes_to_judge_by_the_loss_chooses(
    finetune_config: DictConfig, tiny: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module, data = adapting(choose(finetune_config, encoder="gru"), tiny, None, freeze_encoder=False)
    assert data.samples.label is not None
    data.samples.label[data.splits["val"]] = 0
    assert Fitting(module, module.config.training, data, tmp_path).monitor == "val/loss"
    assert "validation labels are all alike" in caplog.text
    data.samples.label[data.splits["val"][0]] = 1
    assert Fitting(module, module.config.training, data, tmp_path).monitor == "val/auroc"


def test_l2_sp_pulls_nothing_to_zero(
    pretrained: Path, finetune_config: DictConfig, tiny: dict[str, Any]
) -> None:
    module, _ = adapting(finetune_config, tiny, pretrained, freeze_encoder=False, l2_sp=0.01)
    optimizer = module.configure_optimizers()
    groups = optimizer["optimizer"].param_groups if isinstance(optimizer, dict) else optimizer.param_groups  # type: ignore[union-attr]
    decaying = {id(p) for group in groups if group["weight_decay"] > 0 for p in group["params"]}
    assert decaying == {id(p) for p in module.head.parameters() if p.ndim > 1}


def test_a_narrow_layer_keeps_the_scale() -> None:
    layers = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 1))
    add_lora(layers, rank=4)
    assert [part.scale for part in layers.modules() if isinstance(part, LowRank)] == [2.0, 2.0]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"unfreeze_every": 1}, "unfreeze_every needs unfreeze_epoch"),
        ({"solve_head": True, "freeze_encoder": False}, "solve_head needs a frozen encoder"),
        ({"lora_rank": 4, "unfreeze_epoch": 1}, "lora_rank needs a frozen encoder"),
        ({"lora_alpha": 4.0}, "lora_alpha and lora_layers need lora_rank"),
        ({"l2_sp": 0.1}, "pulls weights that are frozen"),
        ({"l2_sp": -0.1, "freeze_encoder": False}, "l2_sp=-0.1: allowed is 0"),
        ({"solve_head": True, "hide_steps": 0.1, "average_best": 3}, "leave out hide_steps, average_best"),
        ({"hide_variables": 1.0}, "hide_variables=1.0: allowed is 0"),
        ({"average_best": 0}, "average_best=0: allowed is 1 or more"),
        ({"lora_rank": 0}, "lora_rank=0: allowed is 1 or more"),
    ],
)
def test_ways_that_contradict_themselves_are_refused(how: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FineTuningConfig(**how)


@pytest.mark.slow
def test_every_ready_made_way_goes_from_the_command_line_to_a_model(
    on_tiny: list[str], cli: CommandLine
) -> None:
    narrow = ["encoder.d_model=16", "encoder.n_layers=2"]
    assert cli("pretrain", *on_tiny, *narrow).status == 0
    sure = ["training.max_epochs=2", "training.batch_size=32"]
    for way in options("adaptation"):
        done = cli("finetune", *on_tiny[:3], *sure, f"adaptation={way}", f"hydra.run.dir={way}")
        assert done.status == 0, (way, done.err)
        assert cli("predict", f"model={way}", *on_tiny[:2], f"hydra.run.dir={way}/new").status == 0
    probe, new = (
        pl.read_parquet(f"probe/{file}") for file in ("predictions.parquet", "new/predictions.parquet")
    )
    assert probe.height < new.height
    done = cli(
        "finetune",
        *on_tiny[:3],
        *sure,
        "adaptation=finetune",
        "training.average_best=2",
        "hydra.run.dir=average",
    )
    assert done.status == 0 and "weights of 2 epochs averaged: val/" in done.out, done.err
