"""Linear heads that are solved on embeddings computed once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from sklearn.linear_model import LogisticRegression

from adapting import MORTALITY, adapting, prepared
from quick import choose
from slices.training import FineTuneModule
from slices.training.adaptation.config import FineTuningConfig
from slices.training.adaptation.fitting import Fitting
from slices.training.adaptation.solved_probe import Embedded, embedded, embeddings, solve_head
from slices.training.errors import UserError
from slices.training.evaluation.probe import fit_probe

SLOW = ("length_of_stay_class", "organ_failure", "deterioration")


@pytest.mark.parametrize(
    "task", [MORTALITY, "length_of_stay", *(pytest.param(task, marks=pytest.mark.slow) for task in SLOW)]
)
def test_a_solved_head_says_what_the_probe_says(
    task: str, pretrained: Path, finetune_config: DictConfig, tiny: dict[str, Any]
) -> None:
    module, data = adapting(finetune_config, tiny, pretrained, task, head_type="linear", solve_head=True)
    probe = solve_head(module, data)
    rows = embedded(module, data, "train")
    torch.testing.assert_close(
        module.head.eval()(rows.features)["probs"].double(),
        probe.predict(rows.features),
        rtol=1e-3,
        atol=1e-4,
    )
    n_labels = 1 if rows.label.ndim == 1 else rows.label.shape[1]
    assert len(probe.strength) == n_labels and len(rows.features) == len(rows.patient)


def test_a_solved_head_is_scikit_learns(
    pretrained: Path, finetune_config: DictConfig, tiny: dict[str, Any]
) -> None:
    module, data = adapting(finetune_config, tiny, pretrained, head_type="linear", solve_head=True)
    probe = solve_head(module, data)
    rows = embedded(module, data, "train")
    x = ((rows.features.double() - probe.mean) / probe.scale).numpy()
    model = LogisticRegression(C=1 / probe.strength[0], tol=1e-10, max_iter=10_000).fit(x, rows.label.numpy())
    ours = module.head.eval()(rows.features)["probs"].detach().numpy()
    assert ours == pytest.approx(model.predict_proba(x), abs=1e-4)


def test_labels_a_step_are_solved_with_the_steps_that_have_one(
    finetune_config: DictConfig, tiny: dict[str, Any]
) -> None:
    config = choose(finetune_config, encoder="gru", task="deterioration")
    config.data, config.encoder = tiny, {"d_model": 8}
    config.task = {"per_step": True, "head_type": "linear"}
    config.training = {"solve_head": True}
    module = FineTuneModule(config)
    data = prepared(tiny, "deterioration", per_step=True)
    rows = embedded(module, data, "train")
    label, label_mask = data.split_labels("train")
    assert len(rows.features) == label_mask.sum() and rows.features.shape[1] == 8
    assert rows.label.sum() == label[label_mask].sum()
    solve_head(module, data)


@pytest.mark.parametrize("far", [0.0, 200.0])
def test_a_solved_head_is_right_far_from_zero(
    far: float, finetune_config: DictConfig, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Intercepts are as great as embeddings and labels make them; what never is has a finite one."""
    module, data = adapting(
        choose(finetune_config, encoder="gru"), tiny, None, "organ_failure", "linear", solve_head=True
    )
    width, n = module.encoder.output_dim, 300
    x = far + 0.1 * torch.randn(n, width)
    label = (x[:, :1] > far).float().expand(n, 5).clone()
    label[:, 3], label[:, 4] = 1.0, 0.0
    rows = Embedded(x, label, torch.ones(n, 5, dtype=torch.bool), torch.arange(n))
    monkeypatch.setattr("slices.training.adaptation.solved_probe.embedded", lambda *_: rows)
    probe = solve_head(module, data)
    with torch.no_grad():
        outputs = module.head.eval()(x)
    assert outputs["logits"].isfinite().all()
    torch.testing.assert_close(outputs["probs"].double(), probe.predict(x), atol=2e-2, rtol=0)
    assert ((outputs["probs"] > 0.5) == label.bool()).float().mean() > 0.95


def test_a_pooling_that_nobody_trained_is_not_probed(
    pretrained: Path, finetune_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    finetune_config.encoder = {"name": "transformer", "d_model": 16, "n_heads": 2, "pooling": "attention"}
    module, data = adapting(finetune_config, tiny, pretrained, head_type="linear", solve_head=True)
    with pytest.raises(
        UserError, match=r"no pool\.score\.0\.bias.*encoder=transformer encoder\.pooling=mean"
    ):
        Fitting(module, module.config.training, data, tmp_path)


@pytest.mark.parametrize(
    ("task", "named"),
    [
        ({"head_type": "mlp"}, "task.head_type=mlp (use linear)"),
        ({"head_type": "linear", "loss": "focal"}, "task.loss=focal (use cross_entropy)"),
        ({"head_type": "linear", "class_weight": "balanced"}, "task.class_weight=balanced (use null)"),
    ],
)
def test_what_cannot_be_solved_is_listed(
    task: dict[str, Any],
    named: str,
    finetune_config: DictConfig,
    tiny: dict[str, Any],
    pretrained: Path,
    tmp_path: Path,
) -> None:
    finetune_config.data, finetune_config.task = tiny, task
    finetune_config.training = {"solve_head": True}
    module = FineTuneModule(finetune_config, checkpoint_path=pretrained)
    with pytest.raises(UserError) as error:
        Fitting(module, module.config.training, prepared(tiny, MORTALITY), tmp_path)
    assert named in str(error.value)


def test_a_prior_is_learnt_from_training_stays_with_and_without_a_label(
    pretrained: Path, finetune_config: DictConfig, tiny: dict[str, Any]
) -> None:
    few = tiny | {"label_fraction": 0.3}
    options = {"head_type": "linear", "solve_head": True, "probe_prior": "covariance"}
    module, data = adapting(finetune_config, few, pretrained, **options)
    everybody = embeddings(module, data, data.training_rows)
    rows = embedded(module, data, "train")
    assert len(everybody) > 2 * len(rows.features)
    probe = solve_head(module, data)
    task = {"task_type": "binary", "group": rows.patient}
    expected = fit_probe(rows.features, rows.label, background=everybody, **task)
    other = fit_probe(rows.features, rows.label, **task)
    torch.testing.assert_close(probe.predict(rows.features), expected.predict(rows.features))
    assert not torch.allclose(expected.predict(rows.features), other.predict(rows.features), atol=1e-3)


def test_the_penalty_may_be_given(
    pretrained: Path, finetune_config: DictConfig, tiny: dict[str, Any]
) -> None:
    options = {"head_type": "linear", "solve_head": True, "probe_strength": 77.0}
    module, data = adapting(finetune_config, tiny, pretrained, **options)
    rows = embedded(module, data, "train")
    probe = solve_head(module, data)
    expected = fit_probe(rows.features, rows.label, "binary", strengths=[77.0])
    assert probe.strength == (77.0,)
    torch.testing.assert_close(probe.predict(rows.features), expected.predict(rows.features))


@pytest.mark.parametrize("option", [{"probe_prior": "covariance"}, {"probe_strength": 10.0}])
def test_prior_and_penalty_are_for_heads_that_are_solved(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="needs solve_head=true"):
        FineTuningConfig(**option)


@pytest.mark.parametrize("strength", [0.0, -1.0, float("inf"), float("nan")])
def test_a_penalty_is_a_number_above_0(strength: float) -> None:
    with pytest.raises(ValueError, match="probe_strength="):
        FineTuningConfig(solve_head=True, probe_strength=strength)
