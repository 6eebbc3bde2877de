"""Where the curves of a run go: a CSV file in its folder, and what else is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger

from slices.training.errors import UserError


class Curves(CSVLogger):
    """``metrics.csv``; ``newest`` has what was logged last under each name, as numbers on the host."""

    def __init__(self, folder: Path) -> None:
        # a resumed run does not write over the curves of before
        logs = next(name for i in count() if not (folder / (name := f"logs-{i}" if i else "logs")).exists())
        super().__init__(folder, name="", version=logs)
        self.newest: dict[str, float] = {}

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        self.newest.update(metrics)
        super().log_metrics(dict(metrics), step)


def asked_loggers(folder: Path, names: Sequence[str]) -> list[Logger]:
    """The loggers of these names, all of which write into ``folder``.

    W&B is offline unless ``WANDB_MODE=online`` is set, MLflow keeps a database there unless
    ``MLFLOW_TRACKING_URI`` is.

    Raises:
        UserError: a logger's extra is not installed.
    """
    for name in names:
        if not find_spec(name):
            raise UserError(f"loggers: {name} needs an extra: pip install 'slices-training[{name}]'")
    return [MADE[name](folder) for name in names]


def _tensorboard(folder: Path) -> Logger:
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(folder, name="", version="tensorboard")


def _wandb(folder: Path) -> Logger:
    from lightning.pytorch.loggers import WandbLogger

    return WandbLogger(save_dir=folder, offline=os.environ.get("WANDB_MODE") != "online")


def _mlflow(folder: Path) -> Logger:
    from lightning.pytorch.loggers import MLFlowLogger

    # asked each time: Lightning reads the variable once, when it is imported
    uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    return MLFlowLogger("slices", run_name=folder.name, tracking_uri=uri)


MADE: dict[str, Callable[[Path], Logger]] = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}
