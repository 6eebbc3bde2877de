"""Watching the embedding while it is pretrained, so that a collapse is not found out the next morning."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from slices.ssl.encoding import StayInputs, complete, pool_stay
from slices.ssl.health import Health, collapse
from slices.ssl.views import ViewConfig, look_at, make_view
from slices.training.config import WatchConfig
from slices.training.data.datamodule import StayDataModule
from slices.training.evaluation.metrics import task_scores
from slices.training.evaluation.neighbours import knn_predict
from slices.training.evaluation.probe import fit_probe
from slices.training.pretraining import SSLPretrainModule

log = logging.getLogger(__name__)

Batch = dict[str, Tensor]
AT_ONCE = 128  # stays embedded at a time
SHARE = 0.02  # of a run's cost
MOST_LOOKS = 100


class Watch(Callback):
    """Looks at the embeddings of some validation stays: at the start, every so many steps, and at the end.

    Logs ``embedding/std``, ``embedding/rank``, ``embedding/uniformity`` and ``embedding/alignment`` (see
    :mod:`slices.ssl.health`) and, with a task, ``probe/auroc``, ``probe/auprc``, ``knn/auroc`` and
    ``knn/auprc`` of a linear probe and of nearest neighbours, fitted on labelled training stays, on the
    validation stays.
    Training goes on as if nobody had looked: no gradient, no random number and no mode is touched.

    Warns, or stops the run, where the embedding is collapsing. Every rank looks at the same stays, so that
    none waits for another.

    Args:
        config: how often, at how many stays, and what to do.
        data: where the stays come from; set up, or it is here.

    Raises:
        ValueError: the task is unknown or not one with classes, or there are no validation stays for it.
    """

    def __init__(self, config: WatchConfig, data: StayDataModule) -> None:
        data.setup("fit")
        split = "val" if data.sizes["val"] else "train"
        if split == "train":
            log.info("watching training stays, as there are no validation stays")
        self.config, self._batch_size = config, data.config.batch_size
        self.start: Health | None = None
        self.stopped: str | None = None
        self._looked_at = -1
        self._said: str | None = None
        self._stays = _batches(data, split, config.stays, seed=0)
        self._labelled = None if config.task is None else _Labelled(data, config.task, config.labelled)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._every = self.config.every_n_steps or self._affordable(trainer)
        if self.start is None:
            self._look(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step % self._every == 0 and step != self._looked_at:
            self._look(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step != self._looked_at:
            self._look(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {"start": None if self.start is None else self.start._asdict(), "said": self._said}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        start = state_dict.get("start")
        self.start = None if start is None else Health(**start)
        self._said = state_dict.get("said")

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
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)
        if trainer.is_global_zero:
            shown = "  ".join(f"{name} {value:.3g}" for name, value in values.items())
            log.info("step %d  %s", trainer.global_step, shown)
        self.start = self.start or health
        self._judge(trainer, health)

    def _judge(self, trainer: Trainer, health: Health) -> None:
        assert self.start is not None
        wrong = trainer.strategy.broadcast(collapse(health, self.start))
        kind = None if wrong is None else wrong.split(":")[0]
        if wrong is not None and kind != self._said:
            log.warning(
                "the embedding is collapsing to %s. What to do: docs/PRETRAINING_GUIDE.md, Watching", wrong
            )
        self._said = kind
        if self.config.on_collapse == "stop" and wrong is not None:
            self.stopped = f"stopped at step {trainer.global_step}: the embedding collapsed to {wrong}"
            trainer.should_stop = True


class _Labelled:
    """Training and validation stays with a label."""

    def __init__(self, data: StayDataModule, task: str, n_stays: int) -> None:
        with_task = StayDataModule(data.config, task=task, per_step=False, seed=data.seed)
        with_task.setup("fit")
        info = with_task.task
        assert info is not None
        if info.task_type not in ("binary", "multiclass"):
            raise ValueError(
                f"watch.task={task} is a {info.task_type} task: choose one with classes, or null"
            )
        if not with_task.sizes["val"]:
            raise ValueError(f"watch.task={task} needs validation stays: set data.splits.val_fraction")
        self.type, self.n_classes = info.task_type, len(info.classes)
        self.train = _batches(with_task, "train", n_stays, seed=1)
        self.val = _batches(with_task, "val", n_stays, seed=1)

    def scores(self, module: SSLPretrainModule) -> dict[str, float]:
        """Of a linear probe, and of the nearest neighbours; NaN where no metric is defined."""
        train, label = self._embedded(module, self.train)
        val, wanted = self._embedded(module, self.val)
        if not train.isfinite().all() or not val.isfinite().all() or not len(label):
            return {}
        probe = fit_probe(train, label, self.type, n_classes=self.n_classes, strengths=(1e2,))
        guesses = {
            "probe": probe.predict(val),
            "knn": knn_predict(train, label, val, n_classes=self.n_classes),
        }
        scores = {name: task_scores(self.type, probs, wanted) for name, probs in guesses.items()}
        return {f"{name}/{of}": scores[name][of].item() for name in guesses for of in ("auroc", "auprc")}

    def _embedded(self, module: SSLPretrainModule, batches: list[Batch]) -> tuple[Tensor, Tensor]:
        known = torch.cat([batch["label_mask"] for batch in batches]).bool()
        label = torch.cat([batch["label"] for batch in batches])
        rows = torch.cat([embed(module, inputs_of(module, batch)).float().cpu() for batch in batches])
        return rows[known], label[known].long()


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


def _batches(data: StayDataModule, split: str, n_stays: int, seed: int) -> list[Batch]:
    """Up to so many samples of a split, the same ones whenever it is asked."""
    rows = torch.as_tensor(data.splits[split])
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:n_stays]
    chosen = rows[order.sort().values]
    return [data.cut(part.numpy()) for part in chosen.split(AT_ONCE) if len(part)]  # type: ignore[no-untyped-call]


def _n_stays(batches: list[Batch]) -> int:
    return sum(len(batch["mask"]) for batch in batches)
