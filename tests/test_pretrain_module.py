"""``SSLPretrainModule`` does what its specification says."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from quick import choose, data_for, trainer_for
from slices.encoders import load_encoder
from slices.ssl import BaseSSLObjective, SSLConfig
from slices.ssl.factory import CONFIG_REGISTRY, SSL_REGISTRY
from slices.training import SSLPretrainModule, StayDataModule

ROOT = Path(__file__).resolve().parents[1]
MINIMAL: dict[str, Any] = {
    "encoder": {"name": "transformer", "d_input": 6, "d_model": 16, "n_layers": 1},
    "ssl": {"name": "mae", "mask_ratio": 0.15},
    "optimizer": {"name": "adamw", "lr": 1.0e-3, "weight_decay": 0.01},
}


@pytest.fixture
def datamodule(tiny: dict[str, Any]) -> StayDataModule:
    return data_for(tiny)


def test_the_guides_first_snippet(
    pretrain_config: DictConfig, datamodule: StayDataModule, tmp_path: Path
) -> None:
    config = pretrain_config  # OmegaConf.load("configs/pretrain.yaml"), made small
    module = SSLPretrainModule(config)
    trainer = trainer_for(tmp_path)
    trainer.fit(module, datamodule=datamodule)
    module.save_encoder(tmp_path / "pretrained_encoder.pt")

    assert {"train/loss", "val/loss"} <= set(trainer.callback_metrics)
    loaded = load_encoder(tmp_path / "pretrained_encoder.pt")
    assert loaded.card.variables == datamodule.variables
    assert loaded.card.objective == "mae"
    assert loaded.normalizer is not None
    for name, weight in module.get_encoder().state_dict().items():
        assert torch.equal(weight, loaded.encoder.state_dict()[name]), name


def test_a_config_that_was_only_loaded_is_composed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = OmegaConf.load("configs/pretrain.yaml")
    config.ssl = {"mask_ratio": 0.25}
    module = SSLPretrainModule(config)  # type: ignore[arg-type]
    assert module.config.ssl.mask_ratio == 0.25  # type: ignore[attr-defined]
    assert module.config.encoder.name == "flowsheet"
    assert module.config.encoder.config.d_input >= 35  # type: ignore[operator]


def test_choices_in_a_loaded_defaults_list_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = OmegaConf.load("configs/pretrain.yaml")
    choose(config, encoder="gru")
    assert SSLPretrainModule(config).config.encoder.name == "gru"  # type: ignore[arg-type]


def test_forward_gives_the_objectives_loss_and_metrics() -> None:
    module = SSLPretrainModule(MINIMAL)
    loss, metrics = module(torch.randn(4, 8, 6), torch.rand(4, 8, 6) > 0.5)
    assert loss.ndim == 0 and loss.requires_grad
    assert metrics and all(value.ndim == 0 and not value.requires_grad for value in metrics.values())


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_the_encoder_is_saved_without_data_too(tmp_path: Path, ending: str) -> None:
    module = SSLPretrainModule(MINIMAL)
    module.save_encoder(tmp_path / f"encoder{ending}")
    assert load_encoder(tmp_path / f"encoder{ending}").encoder.config == module.get_encoder().config


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"name": "adamw", "lr": 1e-3, "weight_decay": 0.01}, torch.optim.AdamW),
        ({"name": "adam", "lr": 1e-3, "weight_decay": 0.0}, torch.optim.Adam),
        ({"name": "sgd", "lr": 1e-2, "weight_decay": 1e-4, "momentum": 0.9}, torch.optim.SGD),
    ],
)
def test_optimizers_take_what_they_are_given(given: dict[str, Any], kind: type) -> None:
    optimizer = SSLPretrainModule(MINIMAL | {"optimizer": given}).configure_optimizers()
    assert isinstance(optimizer, kind)
    assert len(optimizer.param_groups) == 2  # biases and norms do not decay
    for group in optimizer.param_groups:
        decays = all(parameter.ndim > 1 for parameter in group["params"])
        expected = given | ({} if decays else {"weight_decay": 0.0})
        assert all(group[key] == value for key, value in expected.items() if key != "name")


@pytest.mark.parametrize(("name", "is_fused"), [("adamw", True), ("adam", True), ("sgd", None)])
def test_a_fused_step_is_the_plain_one(name: str, is_fused: bool | None) -> None:
    """Also of parameters that get their first gradient later, as layers that are unfrozen do."""
    modules = []
    for fused in (is_fused, False):
        torch.manual_seed(0)
        module = SSLPretrainModule(MINIMAL | {"optimizer": {"name": name, "lr": 1e-2}})
        optimizer: Any = module.configure_optimizers()
        assert all(group["fused"] == is_fused for group in optimizer.param_groups)
        for group in optimizer.param_groups:
            group["fused"] = fused
        for step in range(3):
            torch.manual_seed(step)
            for k, parameter in enumerate(module.parameters()):
                gradient = torch.randn_like(parameter)
                parameter.grad = None if step == 0 and k % 2 else gradient
            optimizer.step()
        modules.append(module)
    for fused_one, plain in zip(*(module.parameters() for module in modules), strict=True):
        torch.testing.assert_close(fused_one, plain, atol=1e-5, rtol=1e-4)


# the specification's schedules, and the rate after each of four epochs that start from 1
SCHEDULES = [
    (
        {"name": "warmup_cosine", "warmup_epochs": 2, "max_epochs": 4, "eta_min": 0.0},
        [1 / 3, 2 / 3, 1.0, 0.5],
    ),
    ({"name": "cosine", "T_max": 4, "eta_min": 0.0}, [1.0, 0.8536, 0.5, 0.1464]),
    ({"name": "step", "step_size": 2, "gamma": 0.1}, [1.0, 1.0, 0.1, 0.1]),
    ({"name": "warmup_cosine", "warmup_epochs": 2}, [1 / 3, 2 / 3, 1.0, 0.5]),  # the trainer's four epochs
    ({"name": "cosine"}, [1.0, 0.8536, 0.5, 0.1464]),
]


class Rates(L.Callback):
    def __init__(self) -> None:
        self.by_step: list[float] = []
        self.by_epoch: list[float] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.by_epoch.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        self.by_step.append(trainer.optimizers[0].param_groups[0]["lr"])


def fit_with(
    schedule: dict[str, Any], datamodule: StayDataModule, pretrain_config: DictConfig, folder: Path
) -> Rates:
    choose(pretrain_config, scheduler=schedule["name"])
    pretrain_config.scheduler = schedule
    pretrain_config.optimizer = {"lr": 1.0}
    pretrain_config.encoder = {"d_model": 16, "n_layers": 1}
    rates = Rates()
    trainer = trainer_for(
        folder,
        max_epochs=4,
        limit_train_batches=2,
        callbacks=[rates],
        gradient_clip_val=1e-6,
        log_every_n_steps=1,
    )
    trainer.fit(SSLPretrainModule(pretrain_config), datamodule=datamodule)
    assert trainer.callback_metrics["lr"] == pytest.approx(rates.by_step[-1])
    return rates


@pytest.mark.parametrize(("schedule", "expected"), SCHEDULES)
def test_schedules_by_epoch(
    schedule: dict[str, Any],
    expected: list[float],
    datamodule: StayDataModule,
    pretrain_config: DictConfig,
    tmp_path: Path,
) -> None:
    rates = fit_with(schedule, datamodule, pretrain_config, tmp_path)
    assert rates.by_epoch == pytest.approx(expected, abs=1e-4)


def test_a_schedule_by_step_follows_the_same_curve(
    datamodule: StayDataModule, pretrain_config: DictConfig, tmp_path: Path
) -> None:
    rates = fit_with({"name": "cosine", "interval": "step"}, datamodule, pretrain_config, tmp_path)
    assert rates.by_epoch == pytest.approx([1.0, 0.8536, 0.5, 0.1464], abs=1e-4)
    assert len(set(rates.by_step)) == 8  # it moves at every one of the 4 x 2 steps


def test_plateau_lowers_the_rate_when_validation_stalls(
    datamodule: StayDataModule, pretrain_config: DictConfig, tmp_path: Path
) -> None:
    # a loss must rise by the hour to count as better: it never does
    schedule = {"name": "plateau", "mode": "max", "factor": 0.1, "patience": 0}
    rates = fit_with(schedule, datamodule, pretrain_config, tmp_path)
    assert min(rates.by_epoch) < 1.0


def test_a_warm_up_longer_than_the_schedule_is_refused(
    datamodule: StayDataModule, pretrain_config: DictConfig, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="warmup_epochs=9 is longer"):
        fit_with({"name": "warmup_cosine", "warmup_epochs": 9}, datamodule, pretrain_config, tmp_path)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_teacher_moves_once_per_optimizer_step(
    accumulate: int, datamodule: StayDataModule, pretrain_config: DictConfig, tmp_path: Path
) -> None:
    choose(pretrain_config, ssl="jepa")
    module = SSLPretrainModule(pretrain_config)
    moves: list[tuple[int, int]] = []
    original = module.objective.on_optimizer_step

    def counted(step: int, total_steps: int) -> None:
        moves.append((step, total_steps))
        original(step, total_steps)

    module.objective.on_optimizer_step = counted  # type: ignore[method-assign]
    trainer = trainer_for(
        tmp_path, max_epochs=2, limit_train_batches=3, accumulate_grad_batches=accumulate, limit_val_batches=0
    )
    trainer.fit(module, datamodule=datamodule)
    steps = 6 // accumulate
    assert moves == [(step, steps) for step in range(1, steps + 1)]


def different(draws: list[torch.Tensor]) -> bool:
    return not any(torch.equal(a, b) for i, a in enumerate(draws) for b in draws[:i])


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_what_is_hidden_changes_from_batch_to_batch_and_rank_to_rank_but_not_in_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = SSLPretrainModule(MINIMAL)
    drawn: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    original = module.objective.draw

    def noted(*inputs: Any) -> Any:
        draw = original(*inputs)
        drawn[module.training].append(draw.keep)
        return draw

    def draws_of_two_epochs() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """In training and in validation, of one and the same batch: only the seed can make a difference."""
        drawn.update({True: [], False: []})
        batch = {"timeseries": torch.randn(8, 24, 6), "mask": torch.ones(8, 24, 6, dtype=torch.bool)}
        train, val = (torch.utils.data.DataLoader([batch] * n, batch_size=None) for n in (3, 2))  # type: ignore[arg-type, var-annotated]
        trainer_for(tmp_path, max_epochs=2).fit(module, train, val)
        return drawn[True], drawn[False]

    monkeypatch.setattr(module.objective, "draw", noted)
    train, val = draws_of_two_epochs()
    assert len(train) == 6 and different(train)
    assert len(val) == 4 and different(val[:2])
    assert all(torch.equal(a, b) for a, b in zip(val[:2], val[2:], strict=True))
    monkeypatch.setattr(SSLPretrainModule, "global_rank", 1)
    train_of_rank_1, _ = draws_of_two_epochs()
    assert different([*train, *train_of_rank_1])


def test_what_the_objective_does_not_reach_is_frozen_and_named(
    datamodule: StayDataModule, pretrain_config: DictConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pretrain_config.encoder = {"d_model": 16, "pooling": "attention"}
    with caplog.at_level("INFO", logger="slices"):
        module = SSLPretrainModule(pretrain_config)
    trainer_for(tmp_path).fit(module, datamodule=datamodule)
    frozen = [name for name, p in module.get_encoder().named_parameters() if not p.requires_grad]
    assert frozen and all("pool" in name for name in frozen)
    assert all(name in caplog.text for name in frozen)


def test_a_lightning_checkpoint_loads_safely_and_whole(
    datamodule: StayDataModule, pretrain_config: DictConfig, tmp_path: Path
) -> None:
    module = SSLPretrainModule(pretrain_config)
    trainer = trainer_for(tmp_path)
    trainer.fit(module, datamodule=datamodule)
    trainer.save_checkpoint(tmp_path / "ssl-last.ckpt")
    torch.load(tmp_path / "ssl-last.ckpt", weights_only=True)
    again = SSLPretrainModule.load_from_checkpoint(tmp_path / "ssl-last.ckpt", weights_only=True)
    assert again.config.encoder == module.config.encoder
    assert again.card == module.card
    for name, weight in module.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name


def test_the_same_seed_gives_the_same_run(
    datamodule: StayDataModule, pretrain_config: DictConfig, tmp_path: Path
) -> None:
    weights = []
    for _ in range(2):
        L.seed_everything(1, verbose=False)
        module = SSLPretrainModule(pretrain_config)
        trainer_for(tmp_path).fit(module, datamodule=datamodule)
        weights.append(torch.cat([p.flatten() for p in module.parameters()]))
    assert torch.equal(*weights)


def test_a_batch_with_the_least_trains_too(tmp_path: Path) -> None:
    """A data module that is not ours may give values and mask, and nothing more."""
    batch = {"timeseries": torch.randn(4, 8, 6), "mask": torch.rand(4, 8, 6) > 0.5}
    module = SSLPretrainModule(MINIMAL)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        loader = torch.utils.data.DataLoader([batch, batch], batch_size=None)
        trainer_for(tmp_path).fit(module, loader, loader)
    assert module.trainer.global_step == 2


@pytest.mark.parametrize(
    ("section", "given"),
    [
        ("encoder", {"name": "gru", "d_model": 16}),
        ("ssl", {"name": "jepa"}),
        ("optimizer", {"name": "sgd", "lr": 1.0e-2, "weight_decay": 1.0e-4, "momentum": 0.9}),
        ("scheduler", {"name": "cosine", "T_max": 100, "eta_min": 0.0}),
    ],
)
def test_a_section_of_another_name_replaces_the_composed_one(
    section: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The specification's sections, put into a config that was only loaded."""
    monkeypatch.chdir(ROOT)
    config = OmegaConf.load("configs/pretrain.yaml")
    config[section] = given  # type: ignore[index]
    parsed = SSLPretrainModule(config).config  # type: ignore[arg-type]
    assert getattr(parsed, section).name == given["name"]


def test_the_data_modules_normaliser_does_not_move_with_the_module(
    datamodule: StayDataModule, pretrain_config: DictConfig, tmp_path: Path
) -> None:
    module = SSLPretrainModule(pretrain_config)
    trainer_for(tmp_path).fit(module, datamodule=datamodule)
    before = datamodule.normalizer.location.clone()
    module.to(torch.bfloat16)
    assert torch.equal(datamodule.normalizer.location, before)
    assert datamodule.normalizer.location.dtype == before.dtype
    assert not any("normalizer" in name for name in module.state_dict())


def test_validating_on_other_data_keeps_what_is_known(
    datamodule: StayDataModule, pretrain_config: DictConfig, tmp_path: Path
) -> None:
    module = SSLPretrainModule(pretrain_config)
    trainer_for(tmp_path).fit(module, datamodule=datamodule)
    card = module.card
    trainer_for(tmp_path).validate(module, datamodule.val_dataloader(), verbose=False)
    assert module.card == card and module.normalizer is not None


def test_a_schedule_knows_a_limit_of_steps(
    datamodule: StayDataModule, pretrain_config: DictConfig, tmp_path: Path
) -> None:
    """Warm-up lasts its epoch of three steps, however many epochs are allowed."""
    pretrain_config.scheduler = {"warmup_epochs": 1, "interval": "step"}
    rates = Rates()
    trainer = trainer_for(tmp_path, max_epochs=40, max_steps=12, callbacks=[rates])
    trainer.fit(SSLPretrainModule(pretrain_config), datamodule=datamodule)
    assert rates.by_step.index(max(rates.by_step)) == 3
    assert rates.by_step[-1] < 0.1 * max(rates.by_step)  # and the cosine is over with the run


def test_an_objective_that_names_labels_gets_them(tmp_path: Path, tiny: dict[str, Any]) -> None:
    seen = []

    class Labelled(BaseSSLObjective):
        def forward(self, x, mask, label=None):  # type: ignore[no-untyped-def, override]
            seen.append(label)
            return self.encoder(x, mask).square().mean(), {}

    SSL_REGISTRY["labelled"], CONFIG_REGISTRY["labelled"] = Labelled, SSLConfig
    try:
        config = MINIMAL | {"ssl": {"name": "labelled"}, "encoder": {"name": "gru"}, "data": tiny}
        trainer_for(tmp_path).fit(
            SSLPretrainModule(config), datamodule=data_for(tiny, "in_hospital_mortality")
        )
    finally:
        del SSL_REGISTRY["labelled"], CONFIG_REGISTRY["labelled"]
    assert seen[0] is None  # the look at what the objective reaches has none
    assert all(isinstance(label, torch.Tensor) for label in seen[1:]) and len(seen) > 3
