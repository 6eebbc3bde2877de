"""Numbers that go wrong are noticed before the weights take them, and before a checkpoint does."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from slices.training.bad_step import Micro, Step, listed, not_finite, save, suspects, withhold
from slices.training.kept_buffers import KeptBuffers
from slices.training.ranges import OnNonfinite
from slices.training.spikes import Spikes
from slices.training.step_numbers import StepNumbers
from slices.training.together import end_together, of_all_ranks

log = logging.getLogger(__name__)
IN_A_ROW = 10  # steps that are left out, after which a run ends in any case
MOST_KEPT = 10  # bad steps that a run writes
HELP = "docs/PRETRAINING_GUIDE.md, When numbers go wrong"


class FiniteGuard(Callback):
    """Ends a run, or leaves a step out, where its loss or a gradient is not finite, and says who is at fault.

    The weights stay what they were before the step. Before a checkpoint is written, weights and buffers are
    looked at, too: one that is not finite ends the run. A loss far above those before is warned of, and a
    validation loss, or a score that chooses checkpoints, that is not finite. Gradients that overflow under a
    scaler of gradients (16-mixed) are its own affair, until its scale has fallen below 1.

    On a GPU nobody waits for the numbers where the optimizer is fused, as our Adam and AdamW are: it leaves
    the step out on the device, and the numbers are read in the step after. The ranks look at the numbers of
    all, so that they decide alike.

    Args:
        on_nonfinite: ``stop`` ends the run. With ``skip`` no weight, moment or buffer moves in such a step;
            the run ends after ten of them in a row.
        folder: where such steps are written, up to ten, for :func:`slices.training.bad_step.replay`; None:
            nowhere.
        checkpoint: the one that can be gone on from.
        go_on: said where it is there: how.

    Raises:
        FailedRun: while training, on rank 0; the other ranks exit.
    """

    def __init__(
        self,
        on_nonfinite: OnNonfinite = "stop",
        folder: Path | None = None,
        checkpoint: Path | None = None,
        go_on: str = "",
    ) -> None:
        self.on_nonfinite, self.folder, self.checkpoint, self.go_on = on_nonfinite, folder, checkpoint, go_on
        self.spikes = Spikes()
        self._in_a_row = self._written = 0
        self._bad_inputs = False
        self._micros: list[Micro] = []
        self._losses: list[Tensor] = []
        self._of_validation: list[Tensor] = []
        self._late: tuple[Step, StepNumbers] | None = None
        self._buffers = KeptBuffers()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._micros, self._losses, self._late = [], [], None
        self._buffers = KeptBuffers(pl_module.buffers() if self.on_nonfinite == "skip" else ())

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if not self._micros:
            self._buffers.keep()
        held = dict(batch) if isinstance(batch, dict) else batch
        self._micros.append(Micro(batch_idx, trainer.fit_loop.total_batch_idx, held))
        self._bad_inputs = withhold(batch)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        self._losses.append(torch.full_like(loss, torch.nan) if self._bad_inputs else loss.detach())

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        self._read_late(trainer, pl_module)
        step = Step(trainer.current_epoch, trainer.global_step + 1, self._micros, trainer.is_last_batch)
        numbers = StepNumbers.of(trainer, optimizer, self._losses)
        self._micros, self._losses = [], []
        if skips_on_device(optimizer):
            bad = ~numbers.values.isfinite().all()
            optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
            self._buffers.put_back(bad)
            self._late = step, numbers.on_their_way()
        elif not self._judge(trainer, pl_module, step, numbers):
            optimizer.zero_grad()  # what has no gradient is not stepped
            self._buffers.put_back(torch.tensor(True, device=pl_module.device))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        for optimizer in trainer.optimizers:
            vars(optimizer).pop("found_inf", None)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._read_late(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._read_late(trainer, pl_module)
        names = not_finite(pl_module.state_dict())
        if found := of_all_ranks(trainer, [f"{listed('weight', names)} not finite"] if names else []):
            self._end(
                trainer, f"after step {trainer.global_step}: {'; '.join(found)}: no checkpoint is written"
            )
        checkpoint["callbacks"][self.state_key] = self.state_dict()  # with what was just read

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._of_validation = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any, **__: Any
    ) -> None:
        if isinstance(outputs, Tensor):
            self._of_validation.append(outputs.detach())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        bad = [index for index, loss in enumerate(self._of_validation) if not loss.isfinite().all()]
        if bad:
            which = listed("validation batch", bad)
            log.warning("epoch %d: the loss of %s is not finite", trainer.current_epoch, which)
        for name in {str(getattr(callback, "monitor", None)) for callback in trainer.checkpoint_callbacks}:
            value = trainer.callback_metrics.get(name)  # on every rank: looking averages over ranks
            if value is not None and not value.isfinite() and trainer.is_global_zero:
                log.warning("epoch %d: %s is not finite", trainer.current_epoch, name)

    def state_dict(self) -> dict[str, Any]:
        return {
            "losses": list(self.spikes.recent),
            "silent": self.spikes.silent,
            "in_a_row": self._in_a_row,
            "written": self._written,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.spikes.recent.extend(map(float, state_dict["losses"]))
        self.spikes.silent = int(state_dict["silent"])
        self._in_a_row, self._written = int(state_dict["in_a_row"]), int(state_dict["written"])

    def _read_late(self, trainer: Trainer, module: LightningModule) -> None:
        if self._late is not None:
            late, self._late = self._late, None
            self._judge(trainer, module, *late)

    def _judge(self, trainer: Trainer, module: LightningModule, step: Step, numbers: StepNumbers) -> bool:
        """Is all finite? What is not is reported, and may end the run."""
        losses, norm, scale = numbers.read()
        loss_is_finite = all(map(math.isfinite, losses))
        if loss_is_finite and math.isfinite(norm):
            self._in_a_row = 0
            if not step.ends_epoch:  # its batch may be of a few stays
                loss = trainer.accumulate_grad_batches * math.fsum(losses) / len(losses)
                self._look_for_spike(trainer, step, loss)
            return True
        if loss_is_finite and numbers.scaled and scale >= 1:
            log.info("%s: gradients overflow at a scale of %g, and the step is left out", step, scale)
            return False
        self._report(trainer, module, step, _gradients(trainer, module, step) if loss_is_finite else "loss")
        return False

    def _look_for_spike(self, trainer: Trainer, step: Step, loss: float) -> None:
        median = self.spikes.median_below(loss)
        if median is not None and trainer.is_global_zero:
            log.warning("%s: the loss jumps to %.4g, from a median of %.4g", step, loss, median)

    def _report(self, trainer: Trainer, module: LightningModule, step: Step, what: str) -> None:
        self._in_a_row += 1
        found = of_all_ranks(trainer, suspects(trainer, module, step))
        message = f"{step}: {what} not finite: "
        message += "; ".join(found) or "no stay by itself is at fault, as inputs and embeddings are finite"
        if self.folder is not None and self._written < MOST_KEPT:
            self._written += 1
            message += f"; written to {save(trainer, step, self.folder)}"
        if self.on_nonfinite == "stop":
            self._end(trainer, message)
        if self._in_a_row >= IN_A_ROW:
            self._end(trainer, f"{message}. {IN_A_ROW} steps in a row were left out")
        if trainer.is_global_zero:
            log.warning("%s. The step is left out", message)

    def _end(self, trainer: Trainer, message: str) -> NoReturn:
        last = "There is no checkpoint yet"
        if self.checkpoint is not None and self.checkpoint.is_file():
            last = f"The last good checkpoint is {self.checkpoint}{self.go_on}"
        end_together(
            trainer,
            f"{message}. {last}. What may help: a lower optimizer.lr or trainer.gradient_clip_val, or "
            f"training.on_nonfinite=skip ({HELP})",
        )


def skips_on_device(optimizer: Optimizer) -> bool:
    """Does the optimizer look at ``found_inf`` on a GPU, so that nobody need wait to know whether to step?"""
    groups = optimizer.param_groups
    on_gpu = any(parameter.is_cuda for group in groups for parameter in group["params"])
    return on_gpu and all(group.get("fused") for group in groups)


def _gradients(trainer: Trainer, module: LightningModule, step: Step) -> str:
    """Those that are not finite, by name, if they are still there."""
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    names = not_finite(gradients) if step.number > trainer.global_step else []
    return f"loss finite, {listed('gradient', names) if names else 'gradients'}"
