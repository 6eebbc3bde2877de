"""A number that goes wrong is noticed in its step, and named; weights and checkpoints never take it."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor

from cli import CommandLine
from of_ranks import of_ranks
from poisoned import (
    BATCH,
    ENCODER,
    MAKE,
    ROW,
    At,
    bad_gradient,
    bad_loss,
    data_of,
    fine_tuning,
    fit,
    once,
    overflow,
    poison,
    pretraining,
    same,
    state_of,
)
from quick import trainer_for
from slices.training import finite
from slices.training.adaptation.fitting import Fitting
from slices.training.bad_step import replay
from slices.training.errors import FailedRun
from slices.training.finite import IN_A_ROW, MOST_KEPT, FiniteGuard
from slices.training.optim import SGDConfig


@pytest.fixture(params=[False, True], ids=["at once", "a step later"])
def late(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """As on a processor, and as on a GPU, where the fused optimizer leaves out the step by itself."""
    monkeypatch.setattr(finite, "skips_on_device", lambda optimizer: request.param)
    return bool(request.param)


@pytest.mark.parametrize(
    ("kind", "change", "accumulated"), [("pretraining", poison, 1), ("fine-tuning", overflow, 2)]
)
def test_a_poisoned_stay_stops_the_run_and_is_named(
    kind: str, change: Any, accumulated: int, late: bool, tiny: dict[str, Any], tmp_path: Path
) -> None:
    module, changed = MAKE[kind](tiny), At(change, BATCH)
    with pytest.raises(FailedRun) as error:
        fit(tmp_path, tiny, module, changed, FiniteGuard(), accumulate_grad_batches=accumulated)
    message = str(error.value)
    step, n_batches = BATCH // accumulated + 1, len(changed.states)
    assert n_batches == (step + late) * accumulated
    assert f"epoch 0, step {step}, batch" in message and "loss not finite" in message
    data = data_of(tiny, module)
    data.setup()
    data.train_dataloader()
    batch = [*data.loader("train", shuffle=True)][BATCH]
    row = list(data.store.stay_id).index(batch["stay_id"][ROW])
    variable = data.variables[int(batch["mask"][ROW].nonzero()[0, 1])]
    who = f"stay {ROW} of 8, row {row} of the dataset"
    what = "not finite" if change is poison else "over 100 standard deviations"
    assert f"batch {BATCH}: inputs {what} ({who}, variable {variable})" in message
    assert (f"embeddings not finite ({who})" in message) == (change is overflow)
    assert "There is no checkpoint yet" in message and "training.on_nonfinite=skip" in message
    assert same(changed.states[(step - 1) * accumulated], state_of(module.trainer))


@pytest.mark.parametrize(
    ("objective", "accumulated"),  # with running statistics, and with a centre
    [("vicreg", 1), pytest.param("dino", 2, marks=pytest.mark.slow)],
)
def test_a_poisoned_stay_is_left_out(
    objective: str,
    accumulated: int,
    late: bool,
    tiny: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    module, changed = pretraining(tiny, "skip", name=objective), At(poison, BATCH)
    with caplog.at_level(logging.WARNING, logger="slices.training.finite"):
        trainer = fit(
            tmp_path, tiny, module, changed, FiniteGuard("skip"), accumulate_grad_batches=accumulated
        )
    (line,) = [record.getMessage() for record in caplog.records]
    assert f"batch {BATCH}: inputs not finite (stay {ROW} of 8" in line and "The step is left out" in line
    before, after = (changed.states[BATCH // accumulated * accumulated + i * accumulated] for i in (0, 1))
    teacher = {name for name in before if "teacher" in name or name.endswith("centre")}
    assert all(torch.equal(before[name], after[name]) for name in before.keys() - teacher)
    assert not same(after, state_of(trainer))
    assert all(value.isfinite().all() for value in state_of(trainer).values())
    assert trainer.callback_metrics["train/loss"].isfinite()


def test_fine_tuning_leaves_a_step_out(tiny: dict[str, Any], tmp_path: Path) -> None:
    module, changed = fine_tuning(tiny, "skip"), At(overflow, BATCH)
    trainer = fit(tmp_path, tiny, module, changed, FiniteGuard("skip"))
    assert same(changed.states[BATCH], changed.states[BATCH + 1])
    assert trainer.callback_metrics["train/loss"].isfinite() and trainer.global_step == 8


def test_momentum_does_not_move_weights_in_a_step_that_is_left_out(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    module, changed = pretraining(tiny, "skip"), At(bad_gradient, BATCH)
    module.config.optimizer = SGDConfig(weight_decay=0.1)
    fit(tmp_path, tiny, module, changed, FiniteGuard("skip"))
    assert same(changed.states[BATCH], changed.states[BATCH + 1])
    assert not same(changed.states[BATCH + 1], changed.states[BATCH + 2])


def test_a_bad_gradient_of_a_good_loss_is_named(late: bool, tiny: dict[str, Any], tmp_path: Path) -> None:
    changed = At(bad_gradient, BATCH)
    with pytest.raises(FailedRun, match=f"step {BATCH + 1}, batch {BATCH}: loss finite, gradients") as error:
        fit(tmp_path, tiny, module := pretraining(tiny), changed, FiniteGuard())
    assert late or re.search(r"gradients objective\.encoder\.\S+, .* more not finite", str(error.value))
    assert "no stay by itself is at fault" in str(error.value)
    assert same(changed.states[BATCH], state_of(module.trainer))


def test_a_loss_that_no_stay_is_to_blame_for(tiny: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(FailedRun, match="loss not finite: no stay by itself is at fault"):
        fit(tmp_path, tiny, pretraining(tiny), At(bad_loss, BATCH), FiniteGuard())


def test_weights_that_are_not_finite_are_named_as_such(tiny: dict[str, Any], tmp_path: Path) -> None:
    def spoil(module: Module, batch: dict[str, Tensor]) -> None:
        next(module.get_encoder().parameters()).data.fill_(torch.nan)

    module = pretraining(tiny)
    name, _ = next(iter(module.get_encoder().named_parameters()))
    with pytest.raises(
        FailedRun, match=f"weight objective.encoder.{name} not finite before the step"
    ) as error:
        fit(tmp_path, tiny, module, At(spoil, BATCH), FiniteGuard())
    assert "embeddings" not in str(error.value)


def test_a_run_in_which_all_steps_are_bad_ends_also_where_they_are_left_out(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    changed = At(bad_loss, *range(2, 100))
    with pytest.raises(FailedRun, match=f"{IN_A_ROW} steps in a row were left out"):
        fit(tmp_path, tiny, pretraining(tiny), changed, FiniteGuard("skip"), max_epochs=3)
    assert len(changed.states) == 2 + IN_A_ROW


class Saving(L.Callback):
    """Writes a checkpoint after the batch that goes wrong."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == BATCH:
            trainer.save_checkpoint(self.path)


def test_a_run_that_is_resumed_goes_on_counting(late: bool, tiny: dict[str, Any], tmp_path: Path) -> None:
    path, bad, more = tmp_path / "last.ckpt", tmp_path / "bad", tmp_path / "more"
    fit(tmp_path, tiny, pretraining(tiny), At(bad_loss, BATCH), Saving(path), FiniteGuard("skip", bad))
    state = torch.load(path, weights_only=True)["callbacks"]["FiniteGuard"]
    assert len(state.pop("losses")) == BATCH
    assert state == {"silent": -BATCH, "in_a_row": 1, "written": 1}
    guard, changed = FiniteGuard("skip", more), At(bad_loss, *range(100))
    guard.load_state_dict({"losses": [1.0], "silent": 5, "in_a_row": IN_A_ROW - 2, "written": MOST_KEPT - 1})
    with pytest.raises(FailedRun, match=f"{IN_A_ROW} steps in a row were left out"):
        fit(tmp_path, tiny, pretraining(tiny), changed, guard)
    assert len(changed.states) == 2 + late and guard.spikes.silent == 5
    assert {file.name for file in more.iterdir()} == {"step-1.ckpt", "step-1-rank-0.pt"}


def test_a_bad_last_step_is_noticed_too(late: bool, tiny: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(FailedRun, match="step 5, batch 4: loss not finite"):
        fit(tmp_path, tiny, pretraining(tiny), At(bad_loss, 4), FiniteGuard(), limit_train_batches=5)


def test_no_checkpoint_is_written_of_weights_that_are_not_finite(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    module = pretraining(tiny)
    trainer = fit(tmp_path, tiny, module, FiniteGuard("skip"))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    written = (tmp_path / "last.ckpt").read_bytes()
    next(module.parameters()).data.fill_(torch.inf)
    with pytest.raises(FailedRun, match=r"after step 8: weight objective\S+ not finite"):
        trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert (tmp_path / "last.ckpt").read_bytes() == written


@pytest.mark.parametrize("app", ["pretrain", pytest.param("finetune", marks=pytest.mark.slow)])
def test_a_run_that_diverges_leaves_its_last_good_checkpoint(
    app: str, on_tiny: list[str], tmp_path: Path, cli: CommandLine
) -> None:
    """At a rate that no run survives."""
    narrow = ["encoder=transformer", "encoder.d_model=16", "encoder.n_layers=1", "training.max_epochs=5"]
    own = {
        "pretrain": ["training.checkpoint_every_n_steps=1", "scheduler=none"],
        "finetune": ["checkpoint_path=null", "adaptation=finetune"],
    }
    rate = ["optimizer.lr=1e30", "training.keep_bad_batch=true", "hydra.run.dir=run"]
    done = cli(app, *on_tiny, *narrow, *own[app], *rate)
    assert done.status == 1, done.err
    assert "not finite" in done.err and "Traceback" not in done.err
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    bad = int(re.search(r"epoch \d+, step (\d+), batch", done.err)[1])  # type: ignore[index]
    assert f"run/bad_steps/step-{bad}-rank-0.pt" in done.err
    assert (tmp_path / "run" / "bad_steps" / f"step-{bad}.ckpt").is_file()
    if app == "pretrain":
        assert "The last good checkpoint is" in done.err and "resume=" in done.err
    for path in last.parent.glob("*.ckpt"):
        kept = torch.load(path, weights_only=True)
        assert kept["global_step"] < bad
        assert all(value.isfinite().all() for value in kept["state_dict"].values())


@pytest.mark.parametrize(
    ("kind", "change"),
    [("pretraining", overflow), ("pretraining", bad_gradient), ("fine-tuning", bad_gradient)],
)
def test_a_bad_step_is_done_again(kind: str, change: Any, tiny: dict[str, Any], tmp_path: Path) -> None:
    losses: list[Tensor] = []

    class Noting(L.Callback):
        def on_before_backward(self, trainer: L.Trainer, pl_module: Any, loss: Tensor) -> None:
            losses.append(2 * loss.detach())  # each of two that are accumulated

    with pytest.raises(FailedRun) as error:
        changed = [At(change, BATCH), Noting(), FiniteGuard(folder=tmp_path / "bad")]
        fit(tmp_path, tiny, module := MAKE[kind](tiny), *changed, accumulate_grad_batches=2)
    file = tmp_path / "bad" / "step-3-rank-0.pt"
    assert f"written to {file}" in str(error.value)
    again = type(module).load_from_checkpoint(tmp_path / "bad" / "step-3.ckpt", weights_only=True)
    found = torch.stack(replay(again, file))
    torch.testing.assert_close(found, torch.stack(losses[-2:]), equal_nan=True, rtol=0, atol=0)
    assert found.isfinite().all() == (change is bad_gradient)


def test_a_run_in_which_all_is_well_does_not_notice(late: bool, tiny: dict[str, Any], tmp_path: Path) -> None:
    without = state_of(fit(tmp_path, tiny, pretraining(tiny, name="byol")))
    for on_nonfinite in ("stop", "skip"):
        module = pretraining(tiny, on_nonfinite, name="byol")
        assert same(without, state_of(fit(tmp_path, tiny, module, FiniteGuard(on_nonfinite))))  # type: ignore[arg-type]


def test_a_loss_that_jumps_is_warned_of_once(
    tiny: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jumps = At(once(lambda loss: 100 * loss), 25, 27)
    options: dict[str, Any] = {"limit_train_batches": 1.0, "max_epochs": 3}
    with caplog.at_level(logging.WARNING, logger="slices.training.finite"):
        fit(tmp_path, tiny, pretraining(tiny), jumps, FiniteGuard(), **options)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "step 26, batch" in line and "the loss jumps to" in line


def half(init_scale: float = 2.0**16) -> MixedPrecision:
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=init_scale))


def test_gradients_that_overflow_under_a_scaler_are_its_own_affair(
    late: bool, tiny: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="slices.training.finite"):
        trainer = fit(tmp_path, tiny, pretraining(tiny), FiniteGuard(), plugins=[half(2.0**30)], max_epochs=3)
    said = [record.getMessage() for record in caplog.records]
    assert said and all("gradients overflow at a scale of" in line for line in said)
    assert 0 < len(said) < trainer.global_step
    assert all(value.isfinite().all() for value in state_of(trainer).values())


@pytest.mark.parametrize(("change", "words"), [(bad_loss, "loss not finite"), (bad_gradient, "loss finite")])
def test_what_a_scaler_does_not_mend_stops_the_run(
    change: Any, words: str, tiny: dict[str, Any], tmp_path: Path
) -> None:
    """A loss at once; gradients when they do not become finite at any scale of 1 or more."""
    changed = At(change, *range(1, 100))
    with pytest.raises(FailedRun, match=words):
        fit(tmp_path, tiny, pretraining(tiny), changed, FiniteGuard(), plugins=[half(4.0)], max_epochs=3)
    assert len(changed.states) == (2 if change is bad_loss else 5)


class BadValidation(L.Callback):
    """Spoils the loss of the first validation batch of these epochs."""

    def __init__(self, *epochs: int) -> None:
        self.epochs = epochs

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.current_epoch in self.epochs and batch_idx == 0:
            bad_loss(pl_module, batch)


def best_of(folder: Path, tiny: dict[str, Any], *bad_epochs: int) -> tuple[str, float]:
    """The best of three epochs by the validation loss."""
    module = fine_tuning(tiny)
    data = data_of(tiny, module)
    data.setup("fit")
    fitting = Fitting(module, module.config.training, data, folder)
    callbacks = [BadValidation(*bad_epochs), FiniteGuard(), *fitting.callbacks]
    assert fitting.monitor == "val/loss"
    return fitting.fit(trainer_for(folder, callbacks=callbacks, max_epochs=3, enable_checkpointing=True))


def test_validation_that_is_not_finite_is_warned_of_and_never_the_best(
    tiny: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="slices.training.finite"):
        best, score = best_of(tmp_path, tiny, 0, 2)
    assert torch.load(best, weights_only=True)["epoch"] == 1 and torch.tensor(score).isfinite()
    assert [record.getMessage() for record in caplog.records if "slices.training.finite" in record.name] == [
        line
        for epoch in (0, 2)
        for line in (
            f"epoch {epoch}: the loss of validation batch 0 is not finite",
            f"epoch {epoch}: val/loss is not finite",
        )
    ]


def test_where_no_validation_is_finite_there_is_no_best(tiny: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(FailedRun, match="in none was val/loss finite"):
        best_of(tmp_path, tiny, 0, 1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_of_two_ranks_one_has_a_poisoned_stay_and_both_leave_the_step_out(
    strategy: str, tmp_path: Path
) -> None:
    config = {
        "encoder": ENCODER | {"d_input": 5, "dropout": 0.0},
        "optimizer": {"name": "sgd", "lr": 0.01},
        "ssl": {"name": "mae"},
        "poisoned": True,
    }
    expected = of_ranks("auto", 1, tmp_path, {"mae": config})["mae"]
    found = of_ranks(strategy, 2, tmp_path, {"mae": config})["mae"]
    assert expected["losses"].isfinite().tolist() == [True, False, True]
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5, equal_nan=True, msg=name)
