"""Several models of one task as one: their mean, and how far they lie apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slices.training.errors import UserError
from slices.training.serving.file import load_model
from slices.training.serving.model import TrainedModel, decide

MODEL_FILE = "model.safetensors"  # what fine-tuning calls it
MULTIRUN_FILE = "multirun.yaml"  # what Hydra writes beside the runs of a --multirun


class Ensemble:
    """One model or several, by name, that agree on all but their weights.

    Raises:
        UserError: models of other tasks, variables or views; names what differs, and in which.
    """

    def __init__(self, members: Mapping[str, TrainedModel]) -> None:
        self.names, self.members = list(members), list(members.values())
        self.first = self.members[0]
        for name, member in members.items():
            _check_agreement(self.names[0], self.first, name, member)

    @property
    def name(self) -> str:
        """What it is called in prediction files."""
        one = "/".join(sorted({member.info.name for member in self.members}))
        return one if len(self.members) == 1 else f"{one} (mean of {len(self.members)})"

    def predict(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """As ``TrainedModel.predict``; of several models the mean of each output.

        ``lower`` and ``upper`` are then the least and the greatest of the members' ``probs``: how much the
        prediction depends on the seed, not a confidence interval. The decision is that of the mean
        probability at the mean of the members' thresholds.
        """
        outputs = [member.predict(batch) for member in self.members]
        if len(outputs) == 1:
            return outputs[0]
        mean = {name: torch.stack([one[name] for one in outputs]).mean(0) for name in outputs[0]}
        probs = torch.stack([one["probs"] for one in outputs])
        mean |= {"lower": probs.amin(0), "upper": probs.amax(0)}
        if "predicted" in mean:
            mean["predicted"] = decide(mean["probs"], self.first.task.task_type, self.thresholds)
        return mean

    @property
    def thresholds(self) -> tuple[float | None, ...]:
        """The mean of the members', None where one of them has none."""
        of_each = zip(*(member.thresholds for member in self.members), strict=True)
        return tuple(None if None in found else sum(found) / len(found) for found in of_each)


def load_models(paths: Sequence[str]) -> Ensemble:
    """The models of files, of runs' folders, and of the members of a run with several.

    Raises:
        UserError: none is given, one lies nowhere, or they do not agree.
        ValueError: a file that is no model; it is named.
    """
    files = [file for path in paths for file in model_files(Path(path))]
    if len(set(files)) < len(files):
        raise UserError(f"a model is given twice: {', '.join(map(str, files))}")
    return Ensemble({str(file): load_model(file) for file in files})


def model_files(path: Path) -> list[Path]:
    """A file itself; of a run's folder its model, of a multirun's those of its runs."""
    if not path.is_dir():
        if not path.is_file():
            raise UserError(f"no model at {path}: give what fine-tuning wrote, or its folder")
        return [path]
    several = (path / MULTIRUN_FILE).is_file()
    files = sorted(path.glob(f"*/{MODEL_FILE}")) if several else [path / MODEL_FILE]
    if not files or not files[0].is_file():
        raise UserError(
            f"no {MODEL_FILE} in {path}: give the folder of a fine-tuning run that ended, or of a --multirun"
        )
    return files


def _check_agreement(first: str, one: TrainedModel, name: str, other: TrainedModel) -> None:
    pairs: dict[str, tuple[Any, Any]] = {
        "task": (one.task.task_name, other.task.task_name),
        "task type": (one.task.task_type, other.task.task_type),
        "classes": (one.info.task.classes, other.info.task.classes),
        "per_step": (one.info.task.per_step, other.info.task.per_step),
        "interval_ends": (one.info.task.interval_ends, other.info.task.interval_ends),
        "predict_at": (one.info.task.predict_at, other.info.task.predict_at),
        "outputs": (one.task.n_outputs, other.task.n_outputs),
        "events": (one.task.n_risks, other.task.n_risks),
        "quantiles": (_quantiles(one), _quantiles(other)),
        "view": (one.info.view, other.info.view),
        "variables": (_described(one), _described(other)),
    }
    differing = [f"{what}: {a} and {b}" for what, (a, b) in pairs.items() if a != b]
    if differing:
        raise UserError(f"{first} and {name} cannot be averaged ({'; '.join(differing)})")


def _quantiles(model: TrainedModel) -> tuple[float, ...] | None:
    return model.task.quantiles if model.task.loss == "quantile" else None


def _described(model: TrainedModel) -> list[tuple[str, str, str]]:
    return [(variable.name, variable.unit, variable.aggregate) for variable in model.info.columns]
