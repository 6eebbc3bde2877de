"""``FineTuneModule``: an encoder, pretrained or not, with a task head."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from omegaconf import DictConfig
from torch import Tensor, nn

from slices.encoders import ENCODER_REGISTRY, BaseEncoder, EncoderCard, Normalizer, build_encoder
from slices.heads import (
    BaseTaskHead,
    TaskLoss,
    balanced_class_weights,
    build_task_head,
)
from slices.ssl.encoding import accepted_inputs
from slices.training.batch import keywords
from slices.training.card import data_card, pack_card, shaped, unpack_card, with_classes
from slices.training.config import FineTuneConfig, NamedEncoder, plain
from slices.training.data.datamodule import StayDataModule
from slices.training.evaluation.metrics import task_metrics
from slices.training.pretrained import adapted, read_pretrained
from slices.training.pretraining import optimizer_and_schedule
from slices.training.seeding import seed_of

log = logging.getLogger(__name__)


class FineTuneModule(L.LightningModule):
    """Predicts ``config.task`` from an encoder's embedding.

    Args:
        config: sections ``task``, ``training``, ``optimizer`` and optionally ``encoder`` and ``scheduler``; a
            whole ``configs/finetune.yaml``, composed or only loaded, will do. Without an ``encoder`` section
            the encoder is the checkpoint's.
        checkpoint_path: an encoder file (``.pt``, ``.safetensors``) from pretraining.
        pretrain_checkpoint_path: a Lightning checkpoint (``.ckpt``) of pretraining.

    Raises:
        ValueError, TypeError, FileNotFoundError: a bad config, or a checkpoint that does not fit it.

    >>> module = FineTuneModule({
    ...     "encoder": {"name": "gru", "d_input": 5, "d_model": 16},
    ...     "task": {"task_name": "mortality", "task_type": "binary", "head_type": "linear"},
    ...     "training": {"freeze_encoder": False},
    ...     "optimizer": {"name": "adamw", "lr": 1.0e-4},
    ... })
    >>> module(torch.randn(2, 8, 5), torch.rand(2, 8, 5) > 0.5)["probs"].shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        config: Mapping[str, Any] | DictConfig,
        checkpoint_path: str | Path | None = None,
        pretrain_checkpoint_path: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.config = FineTuneConfig.parse(config)
        loaded = read_pretrained(checkpoint_path, pretrain_checkpoint_path)
        self.card: EncoderCard | None = loaded.card if loaded else None
        self.normalizer: Normalizer | None = loaded.normalizer if loaded else None
        self.encoder: BaseEncoder
        if loaded is not None:
            name = ENCODER_REGISTRY.name_of(type(loaded.encoder))
            self.encoder = adapted(loaded, self.config.encoder, name, per_step=self.config.task.per_step)
            built = NamedEncoder(name=name, config=self.encoder.config)
        else:
            built = encoder_from_scratch(self.config)
            self.encoder = build_encoder(built.name, built.config)
        task = with_classes(self.config.task, self.config.data)
        self.config = dataclasses.replace(self.config, encoder=built, task=task)
        self.save_hyperparameters({"config": self._portable_config()})

        self.head: BaseTaskHead = build_task_head(task.head(self.encoder.output_dim))
        self.task_loss = TaskLoss(task.task_type, label_smoothing=task.label_smoothing)
        if isinstance(task.class_weight, tuple):
            self.task_loss.class_weight = torch.tensor(task.class_weight)
        stages = ("train", "val", "test")
        self.metrics = nn.ModuleDict({f"of_{stage}": task_metrics(task.task_type) for stage in stages})
        self._accepts = accepted_inputs(self.encoder)
        self._set_frozen(self.config.training.freeze_encoder)

    def _portable_config(self) -> dict[str, Any]:
        """What rebuilds this module anywhere: plain values, and no file or data to look at."""
        parts = ("encoder", "task", "training", "optimizer", "scheduler", "seed")
        return {part: plain(getattr(self.config, part)) for part in parts}

    def forward(
        self,
        timeseries: Tensor,
        mask: Tensor,
        padding_mask: Tensor | None = None,
        times: Tensor | None = None,
        counts: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """``{"logits", "probs"}``, each (B, C), or (B, T, C) where the encoder does not pool."""
        given = {"mask": mask, "padding_mask": padding_mask, "times": times, "counts": counts}
        return self._predict({"timeseries": timeseries, **given})

    @torch.no_grad()
    def embed(self, batch: Mapping[str, Any]) -> Tensor:
        """The encoder's embeddings (B, H), or (B, T, H), of a batch."""
        return self._embed(batch)

    def _embed(self, batch: Mapping[str, Any]) -> Tensor:
        embedding: Tensor = self.encoder(batch["timeseries"], **keywords(batch, self._accepts))
        return embedding

    def _predict(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = self.head(self._embed(batch))
        return outputs

    def setup(self, stage: str) -> None:
        datamodule = getattr(self.trainer, "datamodule", None)
        card, normalizer = data_card(datamodule, self.encoder, self.card.objective if self.card else None)
        if self.card is None or self.config.training.refit_normalizer:
            self.card, self.normalizer = card, normalizer
        if isinstance(datamodule, StayDataModule):
            self.check_data(datamodule)
        if stage == "fit":
            self._prepare_fit(datamodule)

    def check_data(self, datamodule: StayDataModule) -> None:
        """Refuses data whose labels are not of the kind that this module was built for."""
        task, data = self.config.task, datamodule.task
        if data is None:
            raise ValueError(f"the data module gives no labels: build it with task={task.task_name!r}")
        if data.task_type != task.task_type or (data.n_classes or None) not in (None, self.head.output_dim):
            raise ValueError(
                f"task {data.name!r} is {data.task_type} with {data.n_classes} classes in the data, but the "
                f"config says {task.task_type} with {task.n_classes}: choose task={data.name}"
            )
        if data.per_step != task.per_step:
            raise ValueError(
                f"task {data.name!r}: per_step is {data.per_step} in the data: choose task={data.name}"
            )
        if data.per_step and not self.encoder.causal:
            raise ValueError(
                f"task {data.name!r} has one label a step: it needs an encoder that cannot see the future "
                "(encoder=gru, or encoder.causal=true where that is an option; in pretraining too)"
            )

    def _prepare_fit(self, datamodule: object) -> None:
        training, task = self.config.training, self.config.task
        if training.unfreeze_epoch is not None and self.trainer.world_size > 1:
            raise ValueError(
                "training.unfreeze_epoch works on one device: use devices=1, or null to train all"
            )
        if task.class_weight == "balanced":
            if not isinstance(datamodule, StayDataModule):
                raise ValueError(
                    "task.class_weight=balanced needs our data module: give one number a class instead"
                )
            label, label_mask = map(torch.from_numpy, datamodule.train_labels())
            weight = balanced_class_weights(label, label_mask, task.task_type, self.head.output_dim)
            self.task_loss.class_weight = weight.to(self.device)

    def _set_frozen(self, frozen: bool) -> None:
        self.encoder.requires_grad_(not frozen)
        self._frozen = frozen

    def train(self, mode: bool = True) -> FineTuneModule:
        """A frozen encoder stays in eval mode: no dropout, no moving statistics."""
        super().train(mode)
        if self._frozen:
            self.encoder.eval()
        return self

    def on_train_epoch_start(self) -> None:
        """Unfreezes the encoder when its epoch has come."""
        epoch = self.config.training.unfreeze_epoch
        if self._frozen and epoch is not None and self.current_epoch >= epoch:
            self._set_frozen(False)
            self.train()
            log.info("epoch %d: the encoder is trained from here on", self.current_epoch)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # dropout follows from the step alone, so that a resumed run repeats it
        micro_batch = self.trainer.fit_loop.total_batch_idx
        torch.manual_seed(seed_of(self.config.seed, "dropout", micro_batch, self.global_rank))

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        if self.config.scheduler is not None:
            self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])
        return self._step(batch, "train")

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        return self._step(batch, "val")

    def test_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        return self._step(batch, "test")

    def predict_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """The batch's ``stay_id`` and labels beside the predictions."""
        outputs = self._predict(batch)
        kept = {key: batch[key] for key in ("stay_id", "patient_id", "label", "label_mask") if key in batch}
        return {"probs": outputs["probs"], **kept}

    def _step(self, batch: Mapping[str, Tensor], stage: str) -> Tensor:
        outputs = self._predict(batch)
        label, label_mask = batch["label"], batch.get("label_mask")
        loss: Tensor = self.task_loss(outputs["logits"], label, label_mask)
        size, training = len(label), stage == "train"
        self.log(
            f"{stage}/loss",
            loss,
            on_step=training,
            on_epoch=True,
            prog_bar=True,
            sync_dist=not training,
            batch_size=size,
        )
        self.metrics[f"of_{stage}"].update(outputs["probs"].detach(), label, label_mask)  # type: ignore[operator]
        return loss

    def on_train_epoch_end(self) -> None:
        self._log_metrics("train")

    def on_validation_epoch_end(self) -> None:
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        self._log_metrics("test")

    def _log_metrics(self, stage: str) -> None:
        metrics = self.metrics[f"of_{stage}"]
        self.log_dict({f"{stage}/{name}": value for name, value in metrics.compute().items()})  # type: ignore[operator]
        metrics.reset()  # type: ignore[operator]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimizer over all parameters, also those unfrozen later, and the schedule where there is one."""
        return optimizer_and_schedule(self, self.config.optimizer, self.config.scheduler)

    def get_encoder(self) -> BaseEncoder:
        """The encoder."""
        return self.encoder

    def get_task_head(self) -> BaseTaskHead:
        """The task head."""
        return self.head

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["slices"] = pack_card(self.card, self.normalizer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.card, self.normalizer = unpack_card(checkpoint.get("slices"))


def encoder_from_scratch(config: FineTuneConfig) -> NamedEncoder:
    """The encoder section with what its data says of it; the default transformer where there is none."""
    named = config.encoder or NamedEncoder.parse({"name": "transformer"})
    if config.task.per_step:
        named = NamedEncoder(name=named.name, config=dataclasses.replace(named.config, pooling="none"))
    return shaped(named, config.data)
