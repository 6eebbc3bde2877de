"""What a run shows: a bar and a table in a terminal, plain lines elsewhere; and where its curves go."""

from __future__ import annotations

import io
import logging
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
from omegaconf import DictConfig
from rich.console import Console

from cli import CommandLine
from quick import data_for, trainer_for
from slices.training import SSLPretrainModule, progress
from slices.training.apps import loggers
from slices.training.apps.loggers import Curves, asked_loggers
from slices.training.errors import UserError
from slices.training.progress import ProgressBar, show_summary, terminal

NARROW = ["encoder=gru", "encoder.d_model=8"]


@pytest.fixture
def console() -> Console:
    """A terminal in memory."""
    return Console(file=io.StringIO(), force_terminal=True, width=120, no_color=True)


def drawn(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())


@pytest.fixture
def console_handler() -> Iterator[logging.StreamHandler[Any]]:
    """What Hydra gives an app to say things by."""
    handler: logging.StreamHandler[Any] = logging.StreamHandler(io.StringIO())
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


def test_the_bar_shows_what_was_logged_last(
    console: Console,
    console_handler: logging.StreamHandler[Any],
    monkeypatch: pytest.MonkeyPatch,
    tiny: dict[str, Any],
    pretrain_config: DictConfig,
    tmp_path: Path,
) -> None:
    """Numbers alone, so that it cannot wait for a device; what is logged meanwhile appears above it."""
    monkeypatch.setattr(progress, "PAUSE", 0.0)
    pretrain_config.encoder = {"name": "gru", "d_model": 8}
    curves = Curves(tmp_path)
    stream = console_handler.stream

    class Says(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            trainer.loggers[0].log_metrics({"probe/auroc": 0.75})
            logging.getLogger("anybody").warning("look out")

    trainer = trainer_for(
        tmp_path,
        max_epochs=2,
        logger=curves,
        log_every_n_steps=1,
        callbacks=[ProgressBar(console, curves.newest), Says()],
    )
    trainer.fit(SSLPretrainModule(pretrain_config), datamodule=data_for(tiny))
    shown = drawn(console)
    assert "epoch 1/2" in shown and "look out" in shown
    last = shown[shown.rindex("epoch 2/2") :]
    assert re.search(r" loss \d\.\d{4}  val/loss \d\.\d{4}  probe 0\.7500  [\d,]+ stays/s 00:00", last)
    assert all(isinstance(value, float | int) for value in curves.newest.values())
    assert console_handler.stream is stream


def test_a_run_that_fails_gives_the_terminal_back(
    console: Console, tiny: dict[str, Any], pretrain_config: DictConfig, tmp_path: Path
) -> None:
    class Fails(L.Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            raise RuntimeError("no more")

    bar = ProgressBar(console, {})
    trainer = trainer_for(tmp_path, callbacks=[bar, Fails()])
    with pytest.raises(RuntimeError, match="no more"):
        trainer.fit(SSLPretrainModule(pretrain_config), datamodule=data_for(tiny))
    assert not bar._bar.live.is_started
    assert isinstance(console.file, io.StringIO) and "\x1b[?25h" in console.file.getvalue()  # the cursor


@pytest.mark.parametrize(
    ("is_a_terminal", "term", "is_shown"),
    [(True, "xterm", True), (True, "dumb", False), (False, "xterm", False)],
)
def test_what_is_a_terminal(
    is_a_terminal: bool, term: str, is_shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_a_terminal)
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("NO_COLOR", "1")
    found = terminal()
    assert (found is not None) == is_shown
    assert found is None or found.no_color


def test_a_summary_is_a_table_in_a_terminal_and_lines_elsewhere(
    console: Console, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows = {"val/loss": "0.5000", "epochs": 3}
    with caplog.at_level(logging.INFO, logger="slices.training.progress"):
        show_summary(rows)
    assert caplog.messages == ["val/loss: 0.5000", "epochs: 3"]
    monkeypatch.setattr(progress, "terminal", lambda: console)
    show_summary(rows)
    assert re.search(r"│ val/loss +│ 0.5000 │", drawn(console))


@pytest.mark.parametrize("name", loggers.MADE)
def test_a_logger_that_is_not_installed_names_its_extra(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=rf"loggers: {name} .*pip install 'slices-training\[{name}\]'"):
        asked_loggers(tmp_path, [name])


def test_loggers_keep_to_this_machine_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: dict[str, Any] = {}
    monkeypatch.setattr(loggers, "find_spec", lambda _: True)
    for name in ("WandbLogger", "MLFlowLogger"):
        monkeypatch.setattr(f"lightning.pytorch.loggers.{name}", lambda *_, **options: made.update(options))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    asked_loggers(tmp_path, ["wandb", "mlflow"])
    assert made["offline"] and made["tracking_uri"] == f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there")
    asked_loggers(tmp_path, ["wandb", "mlflow"])
    assert not made["offline"] and made["tracking_uri"] == "http://there"


def test_a_logger_of_no_name_is_refused(cli: CommandLine, on_tiny: list[str]) -> None:
    done = cli("pretrain", *on_tiny, *NARROW, "loggers=[wand]")
    assert done.status == 2 and "did you mean 'wandb'?" in done.err


@pytest.mark.slow
def test_a_run_in_a_terminal(on_tiny: list[str], tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "slices.training.cli", "pretrain", *on_tiny, *NARROW]
    with subprocess.Popen(command, cwd=tmp_path, stdout=theirs, env={**os.environ, "TERM": "xterm"}) as run:
        os.close(theirs)
        shown = b""
        while piece := _read(ours):
            shown += piece
    os.close(ours)
    assert run.returncode == 0
    text = shown.decode()
    assert "epoch 1/1" in text and "stays/s" in text and "│" in text and "next: " in text


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # how Linux says that the other side is closed
        return b""
