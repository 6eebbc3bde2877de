"""``FineTuneModule`` does what its specification says."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from quick import choose, data_for, trainer_for
from slices.encoders import (
    ENCODER_CONFIG_REGISTRY,
    ENCODER_REGISTRY,
    BaseEncoder,
    EncoderConfig,
    build_encoder,
    save_encoder,
)
from slices.training import FineTuneModule, SSLPretrainModule

ROOT = Path(__file__).resolve().parents[1]
SCRATCH: dict[str, Any] = {
    "encoder": {"name": "transformer", "d_input": 6, "d_model": 16, "n_layers": 1},
    "task": {
        "task_name": "mortality_24h",
        "task_type": "binary",
        "head_type": "mlp",
        "hidden_dims": [64],
        "dropout": 0.1,
    },
    "training": {"freeze_encoder": True, "unfreeze_epoch": None, "max_epochs": 50, "batch_size": 64},
    "optimizer": {"name": "adamw", "lr": 1.0e-4, "weight_decay": 0.01},
}
CLASSIFICATION = {"train/accuracy", "val/accuracy", "val/auroc", "val/auprc", "val/f1"}
TASKS = {
    "in_hospital_mortality": CLASSIFICATION,
    "length_of_stay_class": CLASSIFICATION,
    "organ_failure": CLASSIFICATION,
    "length_of_stay": set(),
    "deterioration": CLASSIFICATION,
}


@pytest.fixture
def pretrained(pretrain_config: DictConfig, tiny: dict[str, Any], tmp_path: Path) -> dict[str, Path]:
    """Both files that pretraining leaves."""
    module = SSLPretrainModule(pretrain_config)
    trainer = trainer_for(tmp_path)
    trainer.fit(module, datamodule=data_for(tiny))
    trainer.save_checkpoint(tmp_path / "ssl-last.ckpt")
    module.save_encoder(tmp_path / "encoder.pt")
    return {
        "checkpoint_path": tmp_path / "encoder.pt",
        "pretrain_checkpoint_path": tmp_path / "ssl-last.ckpt",
    }


@pytest.mark.parametrize("form", ["checkpoint_path", "pretrain_checkpoint_path"])
def test_the_guides_snippet_takes_both_checkpoint_forms(
    form: str, pretrained: dict[str, Path], finetune_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    config = finetune_config  # OmegaConf.load("configs/finetune.yaml"), made small
    module = FineTuneModule(config=config, **{form: pretrained[form]})  # type: ignore[arg-type]
    before = copy.deepcopy(module.get_encoder().state_dict())
    datamodule = data_for(tiny, "in_hospital_mortality")
    trainer = trainer_for(tmp_path)
    trainer.fit(module, datamodule=datamodule)
    assert module.card is not None and module.card.objective == "mae"
    after = module.get_encoder().state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)  # a linear probe leaves it alone


def test_both_forms_hold_the_same_encoder(pretrained: dict[str, Path], finetune_config: DictConfig) -> None:
    a = FineTuneModule(finetune_config, checkpoint_path=pretrained["checkpoint_path"])
    b = FineTuneModule(finetune_config, pretrain_checkpoint_path=pretrained["pretrain_checkpoint_path"])
    for name, weight in a.get_encoder().state_dict().items():
        assert torch.equal(weight, b.get_encoder().state_dict()[name]), name
    assert a.card == b.card


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_task_type_trains_and_logs_its_names(
    task: str, finetune_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    config = choose(finetune_config, task=task, encoder="gru")
    config.encoder = {"d_model": 16}
    config.training = {"freeze_encoder": False}
    module = FineTuneModule(config)
    trainer = trainer_for(tmp_path)
    datamodule = data_for(tiny, task)
    trainer.fit(module, datamodule=datamodule)
    names = TASKS[task] | {"train/loss", "val/loss"}
    assert set(trainer.callback_metrics) >= names
    (tested,) = trainer.test(module, datamodule=datamodule, verbose=False)
    validated = {name.replace("val/", "test/") for name in names if name.startswith("val/")}
    assert set(tested) >= validated


def test_probs_are_what_the_task_type_says() -> None:
    x, mask = torch.randn(3, 8, 6), torch.ones(3, 8, 6, dtype=torch.bool)
    two_classes = SCRATCH["task"] | {"task_type": "multiclass", "n_classes": 2}
    two_labels = SCRATCH["task"] | {"task_type": "multilabel", "n_classes": 2}
    number = SCRATCH["task"] | {"task_type": "regression"}
    for task, width, sums_to_one in ((two_classes, 2, True), (two_labels, 2, False), (number, 1, False)):
        outputs = FineTuneModule(SCRATCH | {"task": task})(x, mask)
        assert outputs["probs"].shape == outputs["logits"].shape == (3, width)
        assert bool(torch.allclose(outputs["probs"].sum(-1), torch.ones(3))) is sums_to_one


def encoder_moves(module: FineTuneModule, tiny: dict[str, Any], folder: Path, epochs: int) -> list[bool]:
    """For each epoch: did the encoder's weights change?"""

    class Watch(L.Callback):
        def __init__(self) -> None:
            self.moved: list[bool] = []

        def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            self.before = copy.deepcopy(module.get_encoder().state_dict())

        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            after = module.get_encoder().state_dict()
            self.moved.append(not all(torch.equal(self.before[name], after[name]) for name in after))

    watch = Watch()
    trainer = trainer_for(folder, max_epochs=epochs, limit_train_batches=2, callbacks=[watch])
    trainer.fit(module, datamodule=data_for(tiny, "in_hospital_mortality"))
    return watch.moved


@pytest.mark.parametrize(
    ("strategy", "moves"),
    [
        ({"freeze_encoder": True}, [False, False, False]),
        ({"freeze_encoder": False}, [True, True, True]),
        ({"freeze_encoder": True, "unfreeze_epoch": 2}, [False, False, True]),
    ],
)
def test_freezing_strategies(
    strategy: dict[str, Any],
    moves: list[bool],
    finetune_config: DictConfig,
    tiny: dict[str, Any],
    tmp_path: Path,
) -> None:
    config = choose(finetune_config, encoder="gru")
    config.encoder = {"d_model": 16}
    config.training = strategy
    assert encoder_moves(FineTuneModule(config), tiny, tmp_path, epochs=3) == moves


def test_a_frozen_encoder_drops_nothing_out(
    pretrained: dict[str, Path], finetune_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    module = FineTuneModule(finetune_config, checkpoint_path=pretrained["checkpoint_path"])
    modes = []

    class Watch(L.Callback):
        def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
            modes.append((module.get_encoder().training, module.get_task_head().training))

    trainer_for(tmp_path, max_epochs=2, callbacks=[Watch()]).fit(
        module, datamodule=data_for(tiny, "in_hospital_mortality")
    )
    assert set(modes) == {(False, True)}


def test_the_checkpoints_columns_and_scale_are_used_whatever_the_data_module_had(
    pretrained: dict[str, Path], finetune_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    module = FineTuneModule(finetune_config, checkpoint_path=pretrained["checkpoint_path"])
    assert module.card is not None and module.normalizer is not None
    datamodule = data_for(tiny, "in_hospital_mortality")
    datamodule.prepare_data()
    datamodule.setup()
    datamodule.feed(tuple(reversed(module.card.variables)))
    trainer_for(tmp_path).fit(module, datamodule=datamodule)
    assert datamodule.variables == module.card.variables
    assert datamodule.normalizer.to_dict() == module.normalizer.to_dict()


def test_another_pooling_starts_fresh_and_is_named(
    pretrained: dict[str, Path], finetune_config: DictConfig, caplog: pytest.LogCaptureFixture
) -> None:
    config = choose(finetune_config, encoder="flowsheet")
    config.encoder = {"d_model": 16, "pooling": "attention"}
    with caplog.at_level("INFO", logger="slices"):
        module = FineTuneModule(config, checkpoint_path=pretrained["checkpoint_path"])
    assert module.get_encoder().config.pooling == "attention"
    assert "trained from scratch: pool" in caplog.text
    trained = [name for name, p in module.get_encoder().named_parameters() if p.requires_grad]
    assert trained and all(name.startswith("pool") for name in trained)  # frozen but for what is new


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"name": "gru", "d_model": 16}, "name: 'flowsheet' in the file, 'gru' asked for"),
        ({"name": "flowsheet", "d_model": 32}, "d_model: 16 in the file, 32 asked for"),
    ],
)
def test_a_checkpoint_of_another_encoder_is_refused(
    encoder: dict[str, Any], message: str, pretrained: dict[str, Path]
) -> None:
    with pytest.raises(ValueError, match=message):
        FineTuneModule(SCRATCH | {"encoder": encoder}, checkpoint_path=pretrained["checkpoint_path"])


def test_balanced_class_weights_come_from_the_training_labels(
    finetune_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    config = choose(finetune_config, encoder="linear")
    config.encoder = {"d_model": 8}
    config.training = {"freeze_encoder": False}
    config.task = {"class_weight": "balanced"}
    module = FineTuneModule(config)
    datamodule = data_for(tiny, "in_hospital_mortality")
    trainer = trainer_for(tmp_path)
    trainer.fit(module, datamodule=datamodule)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    label, label_mask = datamodule.split_labels("train")
    positives, n = (label[label_mask] == 1).sum(), label_mask.sum()
    weight = module.task_loss.class_weight
    assert weight is not None
    assert weight.tolist() == pytest.approx([n / (2 * (n - positives)), n / (2 * positives)])
    again = FineTuneModule.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert again.task_loss.class_weight is not None
    assert again.task_loss.class_weight.tolist() == pytest.approx(weight.tolist())


def test_one_label_a_step_needs_an_encoder_that_cannot_see_the_future(
    finetune_config: DictConfig, tiny: dict[str, Any]
) -> None:
    config = choose(finetune_config, task="deterioration", encoder="transformer")
    config.encoder = {"d_model": 16}
    datamodule = data_for(tiny, "deterioration")
    datamodule.prepare_data()
    datamodule.setup()
    with pytest.raises(ValueError, match="causal"):
        FineTuneModule(config).check_task(datamodule)
    config.encoder = {"d_model": 16, "causal": True}
    FineTuneModule(config).check_task(datamodule)


def test_a_fine_tuned_checkpoint_loads_safely_and_needs_no_other_file(
    pretrained: dict[str, Path], finetune_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    module = FineTuneModule(finetune_config, checkpoint_path=pretrained["checkpoint_path"])
    trainer = trainer_for(tmp_path)
    trainer.fit(module, datamodule=data_for(tiny, "in_hospital_mortality"))
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    pretrained["checkpoint_path"].unlink()
    again = FineTuneModule.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    d_input = again.get_encoder().config.d_input
    x, mask = torch.randn(3, 8, d_input), torch.rand(3, 8, d_input) > 0.5
    assert torch.equal(again.eval()(x, mask)["probs"], module.eval()(x, mask)["probs"])
    assert again.card == module.card


def test_a_frozen_encoder_that_nobody_trained_is_warned_of_when_it_is_fitted(
    finetune_config: DictConfig, tiny: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = choose(finetune_config, encoder="linear")
    config.encoder = {"d_model": 8}
    warned = "the encoder is frozen and was never trained"
    module = FineTuneModule(config)
    assert warned not in caplog.text
    trainer = trainer_for(tmp_path)
    trainer.fit(module, datamodule=data_for(tiny, "in_hospital_mortality"))
    assert warned in caplog.text
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    caplog.clear()
    again = FineTuneModule.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    trainer_for(tmp_path).fit(again, datamodule=data_for(tiny, "in_hospital_mortality"))
    assert warned not in caplog.text


def test_a_file_that_names_no_variables_is_matched_by_number_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save_encoder(tmp_path / "encoder.pt", build_encoder("gru", {"d_input": 6, "d_model": 8}))
    FineTuneModule({key: SCRATCH[key] for key in ("task", "optimizer")}, checkpoint_path=path)
    assert f"{path} names no variables" in caplog.text


@pytest.mark.parametrize("module_of", [SSLPretrainModule, FineTuneModule])
def test_measured_times_are_not_ignored(module_of: type[L.LightningModule]) -> None:
    """Also of a data module that is not ours: an encoder that does not look at times takes even ones only."""

    @dataclass
    class BlindConfig(EncoderConfig):
        pass

    class Blind(BaseEncoder):
        def __init__(self, config: EncoderConfig) -> None:
            super().__init__(config)
            self.linear = nn.Linear(self.d_input, config.d_model)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
            return self.linear(x).mean(1)  # type: ignore[no-any-return]

    x, mask = torch.randn(2, 4, 6), torch.ones(2, 4, 6, dtype=torch.bool)
    real = torch.tensor([[True] * 4, [True, True, False, False]])
    grid = 4.0 * torch.arange(4.0).expand(2, 4) * real
    measured = torch.tensor([[0.0, 1.0, 1.5, 9.0], [0.0, 1.0, 0.0, 0.0]])
    config = SCRATCH | {"ssl": {"name": "mae"}}
    unwanted = ("task", "training") if module_of is SSLPretrainModule else ("ssl",)
    config = {key: value for key, value in config.items() if key not in unwanted}
    ENCODER_REGISTRY["blind"], ENCODER_CONFIG_REGISTRY["blind"] = Blind, BlindConfig
    try:
        blind = config | {"encoder": {"name": "blind", "d_input": 6, "d_model": 16}}
        module_of(blind)(x, mask, padding_mask=real, times=grid)
        module_of(blind)(x, mask)
        with pytest.raises(ValueError, match=r"measured times.*does not take `times`"):
            module_of(blind)(x, mask, padding_mask=real, times=measured)
    finally:
        del ENCODER_REGISTRY["blind"], ENCODER_CONFIG_REGISTRY["blind"]
    module_of(config)(x, mask, padding_mask=real, times=measured)


def test_a_bare_finetune_config_is_composed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    config = OmegaConf.load("configs/finetune.yaml")
    encoder = build_encoder("gru", {"d_input": 6, "d_model": 16})
    path = save_encoder(tmp_path / "encoder.pt", encoder)
    module = FineTuneModule(config=config, checkpoint_path=path)  # type: ignore[arg-type]
    assert module.get_encoder().config == encoder.config
    assert module.get_task_head().config.task_type == "binary"


def test_two_checkpoints_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not both"):
        FineTuneModule(SCRATCH, checkpoint_path="a.pt", pretrain_checkpoint_path="b.ckpt")


def test_unfreezing_what_is_not_frozen_is_refused() -> None:
    training = {"freeze_encoder": False, "unfreeze_epoch": 3}
    with pytest.raises(ValueError, match="unfreeze_epoch needs freeze_encoder=true"):
        FineTuneModule(SCRATCH | {"training": training})
