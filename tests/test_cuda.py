"""On a GPU: the same numbers as on a processor, no waiting for the device, bf16 and compiled code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from quick import choose, data_for, trainer_for
from slices.encoders import build_encoder, list_encoders, load_encoder
from slices.ssl import build_ssl_objective, list_objectives
from slices.training import FineTuneModule, SSLPretrainModule
from slices.training.adaptation.fitting import Fitting
from slices.training.finite import FiniteGuard

if not torch.cuda.is_available():
    pytest.skip("no GPU here", allow_module_level=True)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning"),
    pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores:UserWarning"),  # off on purpose
    pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning"),  # from torch's compiler
]

B, T, D, H = 8, 24, 6, 32


@pytest.fixture(autouse=True)
def _full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # matrix products have it off by default


@contextmanager
def no_waiting() -> Iterator[None]:
    """Whatever waits for the GPU raises."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def stays() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(B, T, D, generator=generator) < 0.5
    padding_mask = torch.arange(T) < torch.randint(8, T + 1, (B, 1), generator=generator)
    mask &= padding_mask.unsqueeze(-1)
    mask[2] = False
    times = torch.arange(T, dtype=torch.float32).expand(B, T) * padding_mask
    x = torch.randn(B, T, D, generator=generator) * mask
    for cells in (x, mask):  # a static variable
        cells[:, 1:, 1] = 0
    return {"x": x, "mask": mask, "padding_mask": padding_mask, "times": times, "counts": mask.float()}


def on_gpu(tree: Any) -> Any:
    return tree_map(lambda leaf: leaf.cuda() if isinstance(leaf, Tensor) else leaf, tree)


def encoder_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build_encoder(name, {"d_input": D, "d_model": H, "dropout": 0.0, "static_columns": (1,)})


def objective_of(name: str, encoder: nn.Module) -> Any:
    torch.manual_seed(1)
    own = {"sum": {"parts": {"mae": {}, "vicreg": {"weight": 0.1}, "contrastive": {}}}}
    return build_ssl_objective(encoder, {"name": name, "d_input": D, **own.get(name, {})})


@pytest.mark.parametrize("name", list_encoders())
def test_an_encoder_gives_what_it_gives_on_a_processor(name: str) -> None:
    encoder, batch = encoder_of(name), stays()
    expected = encoder(**batch)
    expected.square().mean().backward()
    gradients = {name: p.grad for name, p in encoder.named_parameters()}
    encoder.zero_grad()
    found = encoder.cuda()(**on_gpu(batch))
    found.square().mean().backward()
    torch.testing.assert_close(found.cpu(), expected, atol=1e-4, rtol=1e-3)
    for name, p in encoder.named_parameters():
        assert p.grad is not None and gradients[name] is not None
        torch.testing.assert_close(p.grad.cpu(), gradients[name], atol=1e-4, rtol=1e-2)


@pytest.mark.parametrize("encoder_name", list_encoders())
@pytest.mark.parametrize("objective_name", list_objectives())
def test_an_objective_gives_what_it_gives_on_a_processor(objective_name: str, encoder_name: str) -> None:
    objective, batch = objective_of(objective_name, encoder_of(encoder_name)).eval(), stays()
    inputs = [batch[name] for name in ("x", "mask", "padding_mask", "times")]
    draw = objective.draw(*inputs, torch.Generator().manual_seed(2))
    expected, _ = objective(**batch, draw=draw)
    found, _ = objective.cuda()(**on_gpu(batch), draw=on_gpu(draw))
    torch.testing.assert_close(found.cpu(), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("encoder_name", list_encoders())
@pytest.mark.parametrize("objective_name", list_objectives())
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_training_step_does_not_wait(
    objective_name: str, encoder_name: str, precision: torch.dtype
) -> None:
    objective = objective_of(objective_name, encoder_of(encoder_name)).cuda().train()
    trained = [p for p in objective.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, fused=True)
    batch, random = on_gpu(stays()), torch.Generator("cuda").manual_seed(2)
    inputs = [batch[name] for name in ("x", "mask", "padding_mask", "times")]
    for step in range(2):  # the first step may set things up
        torch.cuda.synchronize()
        with no_waiting() if step else torch.enable_grad():
            draw = objective.draw(*inputs, random)
            with torch.autocast("cuda", precision, enabled=precision != torch.float32):
                loss, _ = objective(**batch, draw=draw)
            loss.backward()
            optimizer.step()
            objective.on_optimizer_step(step + 1, 10)
    assert loss.isfinite()


def test_to_look_for_what_is_not_finite_does_not_wait() -> None:
    """The step of which a number is not finite is left out, and known of in the step after."""
    model = nn.Linear(D, 1, device="cuda")
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    guard, reported = FiniteGuard("skip"), []
    guard._report = lambda trainer, module, step, what: reported.append(step.number)  # type: ignore[method-assign]
    trainer: Any = SimpleNamespace(
        precision_plugin=None, world_size=1, current_epoch=0, is_last_batch=False, is_global_zero=True
    )
    trainer.fit_loop, trainer.optimizers = SimpleNamespace(total_batch_idx=0), [optimizer]
    trainer.accumulate_grad_batches, module = 1, cast(Any, model)
    guard.on_train_start(trainer, module)
    batch, weights = {"timeseries": torch.ones(B, D, device="cuda")}, []
    for step in range(4):
        trainer.global_step = step
        torch.cuda.synchronize()
        with no_waiting() if step else torch.enable_grad():
            guard.on_train_batch_start(trainer, module, batch, step)
            loss = model(batch["timeseries"]).mean() * (torch.nan if step == 2 else 1.0)
            guard.on_before_backward(trainer, module, loss)
            loss.backward()
            guard.on_before_optimizer_step(trainer, module, optimizer)
            optimizer.step()
            optimizer.zero_grad()
            guard.on_train_batch_end(trainer, module, None, batch, step)
        weights.append(model.weight.detach().clone())
    assert reported == [3]
    assert [torch.equal(*pair) for pair in pairwise(weights)] == [False, True, False]


@pytest.mark.parametrize("name", list_encoders())
def test_compiled_code_gives_the_same(name: str) -> None:
    encoder, batch = encoder_of(name).cuda().eval(), on_gpu(stays())
    with torch._dynamo.config.patch(allow_rnn=True), torch.no_grad():
        found = torch.compile(encoder, fullgraph=True)(**batch)
        torch.testing.assert_close(found, encoder(**batch), atol=1e-4, rtol=1e-3)


WAYS: list[tuple[str, dict[str, Any]]] = [
    ("in_hospital_mortality", {"class_weight": "balanced"}),
    ("in_hospital_mortality", {"head_type": "attention", "loss": "focal", "focal_gamma": 2.0}),
    ("organ_failure", {}),
    ("length_of_stay_class", {"loss": "focal"}),
    ("length_of_stay_class", {"task_type": "ordinal"}),
    ("length_of_stay", {"loss": "quantile"}),
    ("length_of_stay", {"loss": "gaussian"}),
]


@pytest.mark.parametrize(("task", "options"), WAYS)
def test_a_step_of_fine_tuning_does_not_wait(
    task: str, options: dict[str, Any], finetune_config: DictConfig, tiny: dict[str, Any]
) -> None:
    config = choose(finetune_config, task=task, encoder="gru")
    config.encoder, config.task, config.training = {"d_model": 16}, options, {"freeze_encoder": False}
    module, datamodule = FineTuneModule(config), data_for(tiny, task)
    datamodule.prepare_data()
    datamodule.setup()
    module.follow(datamodule)
    module._prepare_fit(datamodule)
    module.cuda().train()
    batch = on_gpu(next(iter(datamodule.train_dataloader())))
    for step in range(2):
        torch.cuda.synchronize()
        with no_waiting() if step else torch.enable_grad():
            outputs = module._predict(batch)
            module.task_loss(outputs["logits"], batch["label"], batch["label_mask"]).backward()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed", "bf16-true"])
def test_pretraining_and_fine_tuning_on_the_gpu(
    precision: Any,
    pretrain_config: DictConfig,
    finetune_config: DictConfig,
    tiny: dict[str, Any],
    tmp_path: Path,
) -> None:
    module = SSLPretrainModule(pretrain_config)
    trainer = trainer_for(
        tmp_path, accelerator="gpu", devices=1, precision=precision, callbacks=[FiniteGuard()]
    )
    trainer.fit(module, datamodule=data_for(tiny))
    assert trainer.callback_metrics["train/loss"].isfinite()
    path = module.save_encoder(tmp_path / "encoder.pt")
    assert next(load_encoder(path).encoder.parameters()).device.type == "cpu"

    finetune_config.training = {"freeze_encoder": False}
    tuned = FineTuneModule(finetune_config, checkpoint_path=path)
    trainer = trainer_for(
        tmp_path, accelerator="gpu", devices=1, precision=precision, callbacks=[FiniteGuard()]
    )
    trainer.fit(tuned, datamodule=data_for(tiny, "in_hospital_mortality"))
    (tested,) = trainer.test(tuned, datamodule=data_for(tiny, "in_hospital_mortality"), verbose=False)
    assert all(torch.tensor(value).isfinite() for value in tested.values())


ADAPTING: list[dict[str, Any]] = [
    {"freeze_encoder": False, "l2_sp": 0.1, "hide_steps": 0.2, "hide_variables": 0.2},
    {"freeze_encoder": True, "lora_rank": 4},
    {"freeze_encoder": True, "unfreeze_epoch": 0, "unfreeze_every": 1},
]


@pytest.mark.parametrize("how", ADAPTING)
def test_a_step_of_any_way_to_adapt_does_not_wait(
    how: dict[str, Any], finetune_config: DictConfig, tiny: dict[str, Any]
) -> None:
    config = choose(finetune_config, encoder="transformer")
    config.encoder, config.training = {"d_model": 16}, how
    module, datamodule = FineTuneModule(config), data_for(tiny, "in_hospital_mortality")
    datamodule.prepare_data()
    datamodule.setup()
    module.follow(datamodule)
    module.cuda().train()
    module.log = module.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    module.metrics = nn.ModuleDict({f"of_{stage}": Silent() for stage in ("train", "val", "test")})
    batch = on_gpu(next(iter(datamodule.train_dataloader())))
    for step in range(2):
        torch.cuda.synchronize()
        with no_waiting() if step else torch.enable_grad():
            module.training_step(batch, step).backward()
    assert any(p.grad is not None for p in module.encoder.parameters())


class Silent(nn.Module):
    """Metrics, which copy to the CPU at the end of a step, are not what is looked at."""


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_head_is_solved_or_averaged_on_the_gpu(
    head: str, pretrain_config: DictConfig, finetune_config: DictConfig, tiny: dict[str, Any], tmp_path: Path
) -> None:
    path = SSLPretrainModule(pretrain_config).save_encoder(tmp_path / "encoder.pt")
    finetune_config.task = {"task_name": "length_of_stay", "task_type": "regression", "head_type": head}
    finetune_config.training = {"solve_head": True} if head == "linear" else {"average_best": 2}
    module = FineTuneModule(finetune_config, checkpoint_path=path)
    data = data_for(tiny, "length_of_stay")
    fitting = Fitting(module, module.config.training, data, tmp_path / "checkpoints")
    trainer = trainer_for(
        tmp_path,
        accelerator="gpu",
        devices=1,
        max_epochs=3,
        callbacks=fitting.callbacks,
        enable_checkpointing=True,
    )
    data.prepare_data()
    data.setup("fit")
    module.follow(data)
    best, score = fitting.fit(trainer)
    (tested,) = trainer.validate(module, datamodule=data, ckpt_path=best, weights_only=True, verbose=False)
    assert tested["val/loss"] == pytest.approx(score, rel=1e-4)


def test_batches_are_gathered_on_the_gpu_as_in_memory(tiny: dict[str, Any]) -> None:
    data = data_for(tiny)
    data.prepare_data()
    data.setup()
    expected = list(data.train_dataloader())
    assert data._resident is not None
    kept = data._resident.to(torch.device("cuda"))
    rows = data.splits["train"][:16]
    with no_waiting():
        found = kept.cut(rows)
    assert found["timeseries"].is_cuda and len(expected) > 0
    for key, value in data._resident.cut(rows).items():
        assert torch.equal(found[key].cpu(), value), key
