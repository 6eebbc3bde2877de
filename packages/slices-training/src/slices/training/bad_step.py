"""A step that went wrong: what it was made from, who is at fault, and how to do it again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils import _pytree as pytree

from slices.training.checkpoint_io import AtomicCheckpointIO
from slices.training.data.datamodule import StayDataModule
from slices.training.finetuning import FineTuneModule
from slices.training.pretraining import SSLPretrainModule
from slices.training.seeding import seed_globally
from slices.training.together import writing_together

NAMED = 5  # stays, variables or weights that are named, at most
FAR = 100  # standard deviations: no measurement is that far out


class Micro(NamedTuple):
    """One of the batches that a step accumulates: its place in the epoch, that in the run, what it holds."""

    batch_idx: int
    micro_batch: int
    batch: Mapping[str, Any]


class Step(NamedTuple):
    """An optimizer step of this rank."""

    epoch: int
    number: int
    micros: Sequence[Micro]
    ends_epoch: bool

    def __str__(self) -> str:
        return (
            f"epoch {self.epoch}, step {self.number}, {listed('batch', [m.batch_idx for m in self.micros])}"
        )


def suspects(trainer: Trainer, module: LightningModule, step: Step) -> list[str]:
    """Which weights, inputs, labels and embeddings are not finite, without a value.

    To be called on every rank; each looks at its own batches.
    """
    weights = not_finite(dict(module.named_parameters()))
    found = [f"{listed('weight', weights)} not finite before the step"] if weights else []
    for micro in step.micros:
        looks = _Looks(trainer, micro.batch)
        said = [*looks.at_inputs(), *looks.at_labels()]
        # sharded ranks compute embeddings together, also where they are beside the point
        said += [text for text in looks.at_embeddings(module) if not weights]
        found += [f"batch {micro.batch_idx}: {text}" for text in said]
    return found


def not_finite(tensors: Mapping[str, Any]) -> list[str]:
    """The names of those that are not finite; of what is sharded, by this rank's share."""
    own = {name: t.to_local() if isinstance(t, DTensor) else t for name, t in tensors.items()}
    return [name for name, t in own.items() if isinstance(t, Tensor) and not t.isfinite().all()]


def withhold(batch: Any) -> bool:
    """Takes inputs that are not finite for unobserved, in a batch on the processor; were there any?

    Encoders refuse them there, and it is not for one rank alone to end.
    """
    if not isinstance(batch, dict) or not {"timeseries", "mask"} <= batch.keys():
        return False
    x, mask = batch["timeseries"], batch["mask"]
    if x.device.type != "cpu" or math.isfinite(x.sum()) or not (mask & ~x.isfinite()).any():
        return False
    batch["mask"] = mask & x.isfinite()
    return True


class _Looks:
    """Looks at a batch, a dict of tensors, for what is not finite."""

    def __init__(self, trainer: Trainer, batch: Any) -> None:
        self.batch: Mapping[str, Any] = batch if isinstance(batch, Mapping) else {}
        data = getattr(trainer, "datamodule", None)
        self.data = data if isinstance(data, StayDataModule) else None
        self.precision = trainer.precision_plugin

    def at_inputs(self) -> list[str]:
        if "timeseries" not in self.batch:
            return []
        x, far = self.batch["timeseries"], f"over {FAR} standard deviations"
        for wrong, what in ((~x.isfinite(), "not finite"), (x.abs() > FAR, far)):
            bad = wrong & self.batch.get("mask", wrong)
            if bad.any():
                columns = bad.flatten(0, -2).any(0).nonzero()[:, 0].tolist()
                names = [self.data.variables[column] if self.data else column for column in columns]
                return [f"inputs {what} ({self._stays(bad)}, {listed('variable', names)})"]
        return []

    def at_labels(self) -> list[str]:
        found = []
        for name, label in self.batch.items():
            if name.split("/")[0] == "label" and label.is_floating_point():
                known = self.batch.get(name.replace("label", "label_mask", 1), torch.ones_like(label) > 0)
                if (bad := known & ~label.isfinite()).any():
                    found.append(f"{name} not finite ({self._stays(bad)})")
        return found

    @torch.no_grad()
    def at_embeddings(self, module: LightningModule) -> list[str]:
        if not isinstance(module, SSLPretrainModule | FineTuneModule):
            return []
        seen = self.batch["mask"] & self.batch["timeseries"].isfinite()
        with self.precision.forward_context():
            bad = ~module.embed({**self.batch, "mask": seen}).isfinite()
        return [f"embeddings not finite ({self._stays(bad)})"] if bad.any() else []

    def _stays(self, bad: Tensor) -> str:
        """Those with such cells, by their place in the batch and, where that is known, in the dataset."""
        places = bad.reshape(len(bad), -1).any(1).nonzero()[:, 0]
        said = f"{listed('stay', places.tolist())} of {len(bad)}"
        if self.data is None or "stay_id" not in self.batch:
            return said
        rows = np.flatnonzero(np.isin(self.data.store.stay_id, self.batch["stay_id"][places].cpu().numpy()))
        return f"{said}, {listed('row', rows.tolist())} of the dataset"


def listed(what: str, names: Iterable[Any]) -> str:
    """
    >>> listed("stay", [3]), listed("batch", range(7))
    ('stay 3', 'batches 0, 1, 2, 3, 4 and 2 more')
    """
    words = [str(name) for name in names]
    ending = "" if len(words) == 1 else "es" if what.endswith("ch") else "s"
    more = f" and {len(words) - NAMED} more" if len(words) > NAMED else ""
    return f"{what}{ending} {', '.join(words[:NAMED])}{more}"


def save(trainer: Trainer, step: Step, folder: Path) -> Path:
    """Writes ``step-N.ckpt``, the weights before it, and its batches as ``step-N-rank-R.pt``, on every rank.

    Returns the batches of rank 0.
    """
    with writing_together(trainer):
        trainer.save_checkpoint(folder / f"step-{step.number}.ckpt", weights_only=True)
    held = {
        "epoch": step.epoch,
        "step": step.number,
        "rank": trainer.global_rank,
        "precision": str(trainer.precision),
        "micros": [micro._asdict() for micro in step.micros],
    }
    on_cpu = pytree.tree_map(lambda leaf: leaf.cpu() if isinstance(leaf, Tensor) else leaf, held)
    own, first = (folder / f"step-{step.number}-rank-{rank}.pt" for rank in (trainer.global_rank, 0))
    with writing_together(trainer):
        AtomicCheckpointIO().save_checkpoint(on_cpu, own)
        trainer.strategy.barrier("bad step")
    return first


def replay(module: SSLPretrainModule | FineTuneModule, file: str | Path) -> list[Tensor]:
    """The losses of the batches of a step that ``save`` wrote, with the draws and the dropout that it had.

    Args:
        module: with the weights of before the step: ``load_from_checkpoint`` of its ``step-N.ckpt``.
        file: ``step-N-rank-R.pt``.

    Raises:
        ValueError: inputs that are not finite; on the CPU encoders name them.
    """
    held = torch.load(file, map_location=module.device, weights_only=True)
    dtype = torch.bfloat16 if "bf16" in held["precision"] else torch.float16
    module.train()
    losses = []
    for micro in (Micro(**values) for values in held["micros"]):
        seed_globally(module.device, module.config.seed, "dropout", micro.micro_batch, held["rank"])
        with torch.autocast(module.device.type, dtype, enabled="mixed" in held["precision"]):
            if isinstance(module, FineTuneModule):
                losses.append(module.training_step(micro.batch, micro.batch_idx))
            else:
                losses.append(module._step(micro.batch, "train", micro.micro_batch, held["rank"])[0])
    return losses
