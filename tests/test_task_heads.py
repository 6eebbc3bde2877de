"""Every head and loss of slices-heads fine-tunes an encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from quick import choose, data_for, trainer_for
from slices.heads import TASK_HEAD_REGISTRY
from slices.training import FineTuneModule
from slices.training.errors import UserError

WAYS: list[tuple[str, dict[str, Any]]] = [
    ("in_hospital_mortality", {"head_type": "attention"}),
    ("in_hospital_mortality", {"head_type": "linear", "loss": "focal", "focal_gamma": 1.0}),
    ("organ_failure", {"head_type": "attention", "class_weight": "balanced"}),
    ("length_of_stay_class", {"task_type": "ordinal", "class_weight": "balanced"}),
    ("length_of_stay_class", {"loss": "focal"}),
    ("length_of_stay", {"loss": "huber", "huber_delta": 2.0}),
    ("length_of_stay", {"loss": "gaussian", "head_type": "attention"}),
    ("length_of_stay", {"loss": "quantile", "quantiles": [0.05, 0.5, 0.95]}),
]


def module_for(config: DictConfig, task: str, options: dict[str, Any]) -> FineTuneModule:
    config = choose(config, task=task, encoder="gru")
    config.encoder = {"d_model": 16}
    config.task = options
    config.training = {"freeze_encoder": False}
    return FineTuneModule(config)


@pytest.mark.parametrize(
    ("task", "options"),
    [*WAYS[::3], *(pytest.param(*way, marks=pytest.mark.slow) for way in WAYS[1::3] + WAYS[2::3])],
)
def test_it_trains_tests_and_loads_again(
    task: str, options: dict[str, Any], finetune_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    module = module_for(finetune_config, task, options)
    before = {name: weight.clone() for name, weight in module.named_parameters()}
    trainer, datamodule = trainer_for(tmp_path), data_for(tiny, task)
    trainer.fit(module, datamodule=datamodule)
    still = [name for name, weight in module.named_parameters() if torch.equal(weight, before[name])]
    assert not still
    (tested,) = trainer.test(module, datamodule=datamodule, verbose=False)
    assert all(torch.isfinite(torch.tensor(value)) for value in tested.values())

    trainer.save_checkpoint(tmp_path / "model.ckpt")
    again = FineTuneModule.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True).eval()
    batch = next(iter(datamodule.test_dataloader()))  # type: ignore[arg-type]
    (probs, expected) = (m.eval().predict_step(batch, 0)["probs"] for m in (again, module))
    assert torch.equal(probs, expected)


@pytest.mark.parametrize(
    "head_type",
    [name if name == "mlp" else pytest.param(name, marks=pytest.mark.slow) for name in TASK_HEAD_REGISTRY],
)
def test_trained_twice_it_is_the_same(
    head_type: str, finetune_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        module = module_for(finetune_config, "in_hospital_mortality", {"head_type": head_type})
        trainer_for(tmp_path).fit(module, datamodule=data_for(tiny, "in_hospital_mortality"))
        found.append(module.state_dict())
    assert all(torch.equal(found[1][name], value) for name, value in found[0].items())


def test_attention_does_not_look_at_padding(finetune_config: DictConfig, tiny: dict[str, Any]) -> None:
    module = module_for(finetune_config, "in_hospital_mortality", {"head_type": "attention"}).eval()
    x, mask = torch.randn(2, 12, module.encoder.d_input), torch.rand(2, 12, module.encoder.d_input) < 0.5
    real = torch.arange(12) < torch.tensor([[12], [7]])
    short = module(x[1:, :7], mask[1:, :7], real[1:, :7])["probs"]
    torch.testing.assert_close(module(x, mask, real)["probs"][1:], short)


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("in_hospital_mortality", {"head_type": "attention", "per_step": True}, "per_step=false"),
        ("in_hospital_mortality", {"loss": "hubber"}, "hubber"),
        ("in_hospital_mortality", {"loss": "mse"}, "mse"),
        ("length_of_stay", {"huber_delta": 1.0}, "huber_delta"),
    ],
)
def test_what_does_not_go_together_is_refused(
    task: str, options: dict[str, Any], message: str, finetune_config: DictConfig, tiny: dict[str, Any]
) -> None:
    with pytest.raises((ValueError, TypeError, UserError), match=message):
        module_for(finetune_config, task, options)


def test_labels_that_are_not_classes_are_not_ordered(
    finetune_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    module = module_for(finetune_config, "organ_failure", {"task_type": "ordinal"})
    with pytest.raises(UserError, match="organ_failure"):
        trainer_for(tmp_path).fit(module, datamodule=data_for(tiny, "organ_failure"))
