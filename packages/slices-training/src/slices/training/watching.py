"""Watching the embedding while it is pretrained, so that a collapse is not found out the next morning."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from slices.encoders.registry import unknown
from slices.ssl.encoding import StayInputs, complete, pool_stay
from slices.ssl.health import Health, collapse
from slices.ssl.views import ViewConfig, look_at, make_view
from slices.training.config import WatchConfig
from slices.training.data.datamodule import StayDataModule
from slices.training.data.loader import rank_and_world_size
from slices.training.data.samples import Samples, labelled
from slices.training.data.views import Index
from slices.training.evaluation.metrics import task_scores
from slices.training.evaluation.neighbours import knn_predict
from slices.training.evaluation.probe import DEFAULT_STRENGTH, fit_probe
from slices.training.pretraining import SSLPretrainModule

log = logging.getLogger(__name__)

Batch = dict[str, Tensor]
AT_ONCE = 128  # stays embedded at a time
SHARE = 0.02  # of a run's cost
MOST_LOOKS = 100
HELP = "what to do: docs/PRETRAINING_GUIDE.md, Watching"


class Watch(Callback):
    """Looks at the embeddings of some validation stays: at the start, every so many steps, and at the end.

    Logs ``embedding/std``, ``embedding/rank``, ``embedding/dimensions``, ``embedding/uniformity`` and
    ``embedding/alignment`` (see :mod:`slices.ssl.health`) and, with a task, ``probe/auroc``, ``probe/auprc``,
    ``knn/auroc`` and ``knn/auprc`` of a linear probe and of nearest neighbours, fitted on labelled training
    stays, on validation stays.
    Training goes on as if nobody had looked: no gradient, no random number and no mode is touched.

    Warns where the embedding is collapsing, once for each way and at the end again, or stops the run. Every
    rank looks at the same stays, and takes the verdict of the first, so that all stop or none.

    Args:
        config: how often, at how many stays, and what to do.
        data: where the stays come from; set up, or it is here.

    Attributes:
        start: what the untrained encoder's embedding was. A checkpoint holds it.
        wrong: what the embedding had collapsed to when last seen; None: nothing.

    Raises:
        ValueError: the task is unknown, or not one with classes.
    """

    def __init__(self, config: WatchConfig, data: StayDataModule) -> None:
        data.setup("fit")
        self._split = split = "val" if data.sizes["val"] else "train"
        self.config, self._batch_size = config, data.config.batch_size
        self.start: Health | None = None
        self.wrong: str | None = None
        self._looked_at = -1
        self._stays = [data.cut(rows) for rows in _pieces(_some(data.splits[split], config.stays))]
        self._labelled = None if config.task is None else _Labelled(data, config.task, config.labelled)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._every = self.config.every_n_steps or self._affordable(trainer)
        if self.start is None:
            self._look(trainer, pl_module)
        if trainer.is_global_zero:
            which = "validation" if self._split == "val" else "training"
            log.info("the embedding of %s stays is looked at every %d steps", which, self._every)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step % self._every or step == self._looked_at:
            return
        before = self.wrong
        self._look(trainer, pl_module)
        if _way(self.wrong) != _way(before):
            self._warn(trainer, "is collapsing")
        if self.config.on_collapse == "stop" and self.wrong is not None:
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step != self._looked_at:
            self._look(trainer, pl_module)
        self._warn(trainer, "ended up collapsing")

    def state_dict(self) -> dict[str, Any]:
        start = None if self.start is None else self.start._asdict()
        return {"start": start, "wrong": self.wrong, "looked_at": self._looked_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        start = state_dict["start"]
        self.start = None if start is None else Health(**start)
        self.wrong, self._looked_at = state_dict["wrong"], state_dict["looked_at"]

    def _affordable(self, trainer: Trainer) -> int:
        """Steps between two looks: to embed a stay costs a third of training on it."""
        embedded = 3 * _n_stays(self._stays)  # whole, and two views of each
        if self._labelled is not None:
            embedded += _n_stays(self._labelled.train) + _n_stays(self._labelled.val)
        trained = self._batch_size * trainer.accumulate_grad_batches
        steps, total = math.ceil(embedded / 3 / (SHARE * trained)), trainer.estimated_stepping_batches
        return steps if math.isinf(total) else max(steps, math.ceil(total / MOST_LOOKS))

    def _look(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, SSLPretrainModule)
        self._looked_at = trainer.global_step
        with untouched(module):
            of_batches = [of_views(module, batch) for batch in self._stays]
            health = Health.of(*(torch.cat(parts) for parts in zip(*of_batches, strict=True)))
            scores = {} if self._labelled is None else self._labelled.scores(module)
        values = {f"embedding/{name}": value for name, value in health._asdict().items()} | scores
        metrics = trainer.callback_metrics
        for stale in [name for name in metrics if name.startswith(("probe/", "knn/"))]:
            del metrics[stale]
        metrics.update({name: torch.tensor(value) for name, value in values.items()})
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)
        self.start = self.start or health
        self.wrong = trainer.strategy.broadcast(collapse(health, self.start))

    def _warn(self, trainer: Trainer, does: str) -> None:
        if self.wrong is not None and trainer.is_global_zero:
            log.warning("step %d: the embedding %s to %s (%s)", trainer.global_step, does, self.wrong, HELP)


def _way(wrong: str | None) -> str | None:
    """To what an embedding collapses, without the numbers."""
    return wrong and wrong.split(":")[0]


class _Labelled:
    """Training and validation samples with a label of a task."""

    def __init__(self, data: StayDataModule, task: str, most: int) -> None:
        tasks = data.store.manifest.tasks
        if task not in tasks:
            raise ValueError(unknown("task", task, tasks))
        self.type, self.n_classes = tasks[task].task_type, len(tasks[task].classes)
        if self.type not in ("binary", "multiclass"):
            raise ValueError(f"watch.task={task} is a {self.type} task: choose one with classes, or null")
        samples = labelled(data.store, tasks[task], data.view, data.config.window, per_step=False)
        (self.train, self.label), (self.val, self.wanted) = (
            _labelled_batches(data, samples, split, most) for split in ("train", "val")
        )
        self.can_be_scored = all(len(label.unique()) > 1 for label in (self.label, self.wanted))  # type: ignore[no-untyped-call]
        if not self.can_be_scored and rank_and_world_size()[0] == 0:
            there = f"{len(self.label)} training and {len(self.wanted)} validation labels"
            log.warning("watch.task=%s: no scores, as %s are not of two classes in both", task, there)

    def scores(self, module: SSLPretrainModule) -> dict[str, float]:
        """Of a linear probe, and of the nearest neighbours; none where the embedding is not finite."""
        if not self.can_be_scored:
            return {}
        train, val = (
            torch.cat([embed(module, inputs_of(module, batch)).float().cpu() for batch in batches])
            for batches in (self.train, self.val)
        )
        if not (train.isfinite().all() and val.isfinite().all()):
            return {}
        probe = fit_probe(
            train, self.label, self.type, n_classes=self.n_classes, strengths=(DEFAULT_STRENGTH,)
        )
        guesses = {
            "probe": probe.predict(val),
            "knn": knn_predict(train, self.label, val, n_classes=self.n_classes),
        }
        scores = {name: task_scores(self.type, probs, self.wanted) for name, probs in guesses.items()}
        return {f"{name}/{of}": scores[name][of].item() for name in guesses for of in ("auroc", "auprc")}


def _labelled_batches(
    data: StayDataModule, samples: Samples, split: str, most: int
) -> tuple[list[Batch], Tensor]:
    """Up to so many of a split's samples with a label, the same ones whenever it is asked; and the labels."""
    assert samples.label is not None and samples.label_mask is not None
    of_split = np.isin(samples.stay, data.samples.stay[data.splits[split]])
    chosen = samples.take(_some(np.flatnonzero(of_split & samples.label_mask), most))
    pieces = [chosen.take(rows) for rows in _pieces(np.arange(len(chosen.stay)))]
    batches = [
        data.view.cut(data.store, piece.stay, piece.until, piece.start, data.normalizer) for piece in pieces
    ]
    return batches, torch.as_tensor(chosen.label).long()


def embed(module: SSLPretrainModule, inputs: StayInputs) -> Tensor:
    """One embedding a stay, (B, H): the mean of its tokens."""
    return pool_stay(module.objective.encode(inputs))


def inputs_of(module: SSLPretrainModule, batch: Batch) -> StayInputs:
    """A batch as the objective's inputs, in the precision and on the device of training."""
    given = {name: batch[name] for name in ("timeseries", *StayInputs._fields[1:])}
    given = module.trainer.precision_plugin.convert_input(given)
    given = module.trainer.strategy.batch_to_device(given, module.device)
    return complete(given.pop("timeseries"), **given)


def of_views(module: SSLPretrainModule, batch: Batch) -> tuple[Tensor, ...]:
    """The embeddings of some stays and of two views of each, on the CPU; the same views at every look."""
    inputs, dynamic, view = inputs_of(module, batch), module.objective.dynamic, make_view(ViewConfig())
    draws = torch.Generator().manual_seed(0)
    views = [look_at(inputs, view(inputs, dynamic, draws), dynamic) for _ in range(2)]
    return tuple(embed(module, shown).float().cpu() for shown in (inputs, *views))


@contextmanager
def untouched(module: LightningModule) -> Iterator[None]:
    """Within it, evaluation mode and no gradient; after it, modes and random states as they were."""
    modes = [(part, part.training) for part in module.modules()]
    devices = [module.device] if module.device.type == "cuda" else []
    precision = module.trainer.precision_plugin.forward_context()
    with torch.no_grad(), torch.random.fork_rng(devices), precision:
        module.eval()
        try:
            yield
        finally:
            for part, training in modes:
                part.training = training


def _some(rows: Index, most: int) -> Index:
    """Up to ``most`` of these rows, the same ones whenever it is asked."""
    return np.sort(np.random.default_rng(0).permutation(rows)[:most])


def _pieces(rows: Index) -> list[Index]:
    return [rows[first : first + AT_ONCE] for first in range(0, len(rows), AT_ONCE)]


def _n_stays(batches: list[Batch]) -> int:
    return sum(len(batch["mask"]) for batch in batches)
