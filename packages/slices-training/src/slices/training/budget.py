"""What a run will cost, said after its first steps, and in the end what it did cost."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from slices.training.memory import most_memory

log = logging.getLogger(__name__)
Shape = Sequence[int]
PREFIXES = ((15, "P"), (12, "T"), (9, "G"), (6, "M"))


class Budget(Callback):
    """Counts the operations of the first step, times those after it, and says what all of them will take.

    Args:
        seconds: for which steps are timed, before it is said.
    """

    def __init__(self, seconds: float = 3.0) -> None:
        self.seconds = seconds
        self.flops = 0
        """Floating-point operations of one step, on one device: see ``counting``."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._first, self._began = _steps_done(trainer), time.perf_counter()
        self._timed_from: tuple[int, float] | None = None
        self._is_said = False
        self._counter: FlopCounterMode | None = counting()
        self._first_step = ExitStack()
        # what is compiled is not seen by the counter, and is not compiled again once it was counted
        self._first_step.enter_context(torch.compiler.set_stance("force_eager"))
        self._first_step.enter_context(self._counter)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done = _steps_done(trainer)
        if self._counter is not None:
            self._stop_counting()
        elif self._timed_from is None:  # the second step, in which a kernel may still be chosen
            self._timed_from = done, time.perf_counter()
        elif not self._is_said and time.perf_counter() - self._timed_from[1] >= self.seconds:
            self._is_said = True
            since, began = self._timed_from
            a_step = (time.perf_counter() - began) / (done - since)
            if trainer.is_global_zero:
                self._say(trainer, done, a_step, len(batch["timeseries"]) * trainer.world_size)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_counting()
        steps, seconds = _steps_done(trainer) - self._first, time.perf_counter() - self._began
        if steps and trainer.is_global_zero:
            log.info(
                "trained: %s steps in %s, %s in all, memory %.1f GB",
                f"{steps:,}",
                duration(seconds),
                spelt(steps * self.flops * trainer.world_size, "FLOP"),
                most_memory(),
            )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop_counting()

    def _stop_counting(self) -> None:
        counter, self._counter = getattr(self, "_counter", None), None
        if counter is not None:
            self._first_step.close()
            self.flops = counter.get_total_flops()

    def _say(self, trainer: Trainer, done: int, a_step: float, n_stays: int) -> None:
        left = _steps_in_all(trainer) - done
        ends = (
            f"{left:,.0f} more: about {duration(left * a_step)}" if math.isfinite(left) else "no end is set"
        )
        log.info(
            "a step: %d stays, %s, %.0f ms (%s stays/s, %s); %s, validation apart; memory so far %.1f GB",
            n_stays,
            spelt(self.flops * trainer.world_size, "FLOP"),
            1000 * a_step,
            f"{n_stays / a_step:,.0f}",
            spelt(self.flops * trainer.world_size / a_step, "FLOP/s"),
            ends,
            most_memory(),
        )


def counting() -> FlopCounterMode:
    """Counts floating-point operations while it is entered, in whatever runs: ``get_total_flops()``.

    Two for each multiplication with its addition, in matrix products, convolutions, attention and recurrent
    nets, forward and backward; what is done element by element is not counted.

    >>> with counting() as counter:
    ...     _ = torch.ones(2, 3) @ torch.ones(3, 5)
    >>> counter.get_total_flops()
    60
    """
    aten = torch.ops.aten
    more: dict[Any, Callable[..., int]] = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
        aten.mkldnn_rnn_layer: _recurrent_layer,
        aten.mkldnn_rnn_layer_backward: _recurrent_layer_backward,
        aten._cudnn_rnn: _recurrent,
        aten._cudnn_rnn_backward: _recurrent_backward,
    }
    return FlopCounterMode(display=False, custom_mapping=more)


def _attention(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _attention_backward(gradient: Shape, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))  # type: ignore[no-untyped-call]


def _recurrent(x: Shape, weights: Sequence[Shape], *_: Any, **__: Any) -> int:
    """Steps, packed or padded, times the size of all matrices."""
    return 2 * math.prod(x[:-1]) * sum(math.prod(weight) for weight in weights if len(weight) == 2)


def _recurrent_backward(x: Shape, weights: Sequence[Shape], *_: Any, **__: Any) -> int:
    return 2 * _recurrent(x, weights)


def _recurrent_layer(x: Shape, from_input: Shape, from_state: Shape, *_: Any, **__: Any) -> int:
    return _recurrent(x, [from_input, from_state])


def _recurrent_layer_backward(x: Shape, from_input: Shape, from_state: Shape, *_: Any, **__: Any) -> int:
    return 2 * _recurrent(x, [from_input, from_state])


def _steps_done(trainer: Trainer) -> int:
    """Batches, also those that are only accumulated."""
    return int(trainer.fit_loop.total_batch_idx) + 1


def _steps_in_all(trainer: Trainer) -> float:
    limits = [math.inf]
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        limits.append(trainer.max_epochs * trainer.num_training_batches)
    if trainer.max_steps > 0:
        limits.append(trainer.max_steps * trainer.accumulate_grad_batches)
    return min(limits)


def spelt(number: float, unit: str) -> str:
    """
    >>> spelt(2.93e9, "FLOP"), spelt(120.0, "FLOP"), spelt(1e18, "FLOP")
    ('2.93 GFLOP', '120 FLOP', '1,000 PFLOP')
    """
    size, prefix = next(((10.0**p, x) for p, x in PREFIXES if number >= 10.0**p), (1.0, ""))
    scaled = number / size
    return f"{scaled:,.0f} {prefix}{unit}" if scaled >= 100 else f"{scaled:.3g} {prefix}{unit}"


def duration(seconds: float) -> str:
    """
    >>> duration(42.0), duration(95.0), duration(7300.0)
    ('42 s', '1 min 35 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
