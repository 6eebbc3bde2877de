"""What a terminal shows of a run: a progress bar while it goes on, and a table of what came of it."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.file_proxy import FileProxy
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

log = logging.getLogger(__name__)
PAUSE = 0.25  # seconds between two looks at the bar, at least
SHOWN = {  # and under what name: the loss of a step, once one is logged, in place of an epoch's
    "train/loss": "loss",
    "train/loss_step": "loss",
    "val/loss": "val/loss",
    "val/auroc": "val/auroc",
    "probe/auroc": "probe",
}


def terminal() -> Console | None:
    """The terminal that standard output is; None where it goes elsewhere, or to one that cannot move back."""
    console = Console(markup=False, highlight=False)  # heeds NO_COLOR
    return console if sys.stdout.isatty() and not console.is_dumb_terminal else None


class ProgressBar(Callback):
    """Epoch, newest loss and scores, stays a second and time left, drawn a few times a second on rank 0.

    Args:
        console: where.
        newest: what was logged last, as numbers on the host, so that the device is never waited for.
    """

    def __init__(self, console: Console, newest: Mapping[str, float]) -> None:
        self._newest = newest
        parts = ("{task.description}", BarColumn(), "{task.fields[said]}", TimeRemainingColumn(compact=True))
        columns = [TextColumn(part) if isinstance(part, str) else part for part in parts]
        self._bar = Progress(*columns, console=console, auto_refresh=False, transient=True)
        self._drawn = ExitStack()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self._drawn.enter_context(self._bar)
            self._drawn.enter_context(_lines_above(self._bar.console))
            self._task = self._bar.add_task("", total=_n_batches(trainer), said="", completed=_done(trainer))
        self._start_counting()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start_counting()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._stays += len(batch["mask"]) * trainer.world_size
        if trainer.is_global_zero and time.perf_counter() >= self._due:
            self._draw(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._drawn.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._drawn.close()

    def _start_counting(self) -> None:
        self._stays, self._began, self._due = 0, time.perf_counter(), 0.0

    def _draw(self, trainer: Trainer) -> None:
        now = time.perf_counter()
        self._due = now + PAUSE
        values = {name: self._newest[key] for key, name in SHOWN.items() if key in self._newest}
        numbers = [f"{name} {value:.4f}" for name, value in values.items()]
        said = "  ".join([*numbers, f"{self._stays / (now - self._began):,.0f} stays/s"])
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self._bar.update(self._task, description=epoch, completed=_done(trainer), said=said, refresh=True)


def show_summary(rows: Mapping[str, object]) -> None:
    """What came of a run, by name: a table in a terminal, elsewhere a line each."""
    if (console := terminal()) is None:
        for name, value in rows.items():
            log.info("%s: %s", name, value)
        return
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, str(value))
    console.print(table)


@contextmanager
def _lines_above(console: Console) -> Iterator[None]:
    """Within it, what is logged to the terminal appears above the bar."""
    to_terminal = [
        (handler, handler.stream)
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
    ]
    for handler, stream in to_terminal:
        handler.setStream(FileProxy(console, stream))
    try:
        yield
    finally:
        for handler, stream in to_terminal:
            handler.setStream(stream)


def _done(trainer: Trainer) -> int:
    return trainer.fit_loop.total_batch_idx + 1


def _n_batches(trainer: Trainer) -> float | None:
    """Of all epochs; None where there is no last one."""
    total = trainer.estimated_stepping_batches * trainer.accumulate_grad_batches
    return None if math.isinf(total) else total
