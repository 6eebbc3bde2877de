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

from slices.encoders import (
    ENCODER_REGISTRY,
    BaseEncoder,
    EncoderCard,
    LoadedEncoder,
    Normalizer,
    build_encoder,
)
from slices.heads import BaseTaskHead, build_task_head
from slices.ssl.encoding import accepted_inputs
from slices.training.activation_checkpointing import recompute_blocks
from slices.training.adaptation.hiding import hide
from slices.training.adaptation.l2_sp import StartingPoint
from slices.training.adaptation.lora import add_lora, name_within
from slices.training.adaptation.unfreezing import count_layers, train_layers, trained_layers
from slices.training.agreement import (
    check_kind,
    check_shape,
    check_task,
    compare_views,
    encoder_from_scratch,
    refuse_adaptation,
    refuse_other_split,
    refuse_unpooled,
    refuse_unseen_times,
    with_others,
    with_task,
)
from slices.training.batch import keywords
from slices.training.card import as_normalizer, data_card, pack_card, unpack_card
from slices.training.config import FineTuneConfig, NamedEncoder, plain
from slices.training.data.datamodule import StayDataModule
from slices.training.epoch_means import means_of
from slices.training.errors import UserError
from slices.training.optim import optimizer_and_schedule
from slices.training.parameter_groups import Setting, encoder_settings, parameter_groups
from slices.training.pretrained import adapted, read_pretrained
from slices.training.seeding import seed_globally
from slices.training.sharding import refuse_with_sharding, shard
from slices.training.step_logs import log_loss, log_rate
from slices.training.task_parts import (
    STAGES,
    OtherTask,
    count,
    extras,
    make_loss,
    make_metrics,
    make_target,
    needs_labels,
    predict,
    take_from_labels,
    take_scores,
)

log = logging.getLogger(__name__)


class FineTuneModule(L.LightningModule):
    """Predicts ``config.task`` from an encoder's embedding.

    Args:
        config: sections ``task``, ``training``, ``optimizer`` and optionally ``encoder`` and ``scheduler``; a
            whole ``configs/finetune.yaml``, composed or only loaded, will do. Without an ``encoder`` section
            the encoder is the checkpoint's.
        checkpoint_path: an encoder file (``.pt``, ``.safetensors``) from pretraining. By default what the
            config says.
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

    static: Tensor

    def __init__(
        self,
        config: Mapping[str, Any] | DictConfig,
        checkpoint_path: str | Path | None = None,
        pretrain_checkpoint_path: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.config = FineTuneConfig.parse(config)
        if pretrain_checkpoint_path is None:
            checkpoint_path = checkpoint_path or self.config.checkpoint_path
        loaded = read_pretrained(checkpoint_path, pretrain_checkpoint_path)
        self.card: EncoderCard | None = loaded.card if loaded else None
        normalizer = loaded.normalizer if loaded else None
        self._normalizer = normalizer.to_dict() if normalizer else None
        self._fresh: list[str] = []
        task = with_others(with_task(self.config.task, self.config.data), self.config.data)
        self.config = dataclasses.replace(self.config, task=task)
        self.encoder: BaseEncoder = self._make_encoder(loaded)
        if self.config.training.activation_checkpointing:
            recompute_blocks(self.encoder)
        self.save_hyperparameters({"config": self._portable_config()})

        self.head: BaseTaskHead = build_task_head(task.head(self.encoder.output_dim))
        self.task_loss = make_loss(task, self.head.config)
        self.target = make_target(task)
        self.metrics = make_metrics(self.head.config)
        width = self.encoder.output_dim
        others = {name: OtherTask(part, weight, width) for name, (part, weight) in task.others().items()}
        self.others: Mapping[str, OtherTask] = nn.ModuleDict(others)  # type: ignore[assignment]
        self._accepts = accepted_inputs(self.encoder)
        self._times_checked = False
        self._pretrained = loaded is not None
        self.means = means_of(STAGES, self.config.training.on_nonfinite)
        self._prepare_adaptation()

    @property
    def normalizer(self) -> Normalizer | None:
        """A copy of the normaliser that the encoder's inputs went through."""
        return as_normalizer(self._normalizer)

    @property
    def untrained(self) -> tuple[str, ...]:
        """Parameters of the encoder that its checkpoint lacked, as a pooling that was added since."""
        return tuple(self._fresh)

    def _make_encoder(self, loaded: LoadedEncoder | None) -> BaseEncoder:
        if loaded is None:
            named = encoder_from_scratch(self.config)
            encoder = build_encoder(named.name, named.config)
        else:
            name = ENCODER_REGISTRY.name_of(type(loaded.encoder))
            steps = self.config.task.keeps_steps
            encoder, self._fresh = adapted(loaded, self.config.encoder, name, per_step=steps)
            named = NamedEncoder(name=name, config=encoder.config)
        refuse_unpooled(encoder, self.config.task)
        self.config = dataclasses.replace(self.config, encoder=named)
        return encoder

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
        if not self._times_checked:  # once: of the first batch
            refuse_unseen_times(batch, self._accepts)
            self._times_checked = True
        embedding: Tensor = self.encoder(batch["timeseries"], **keywords(batch, self._accepts))
        return embedding

    def _predict(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        return predict(self.head, self._embed(batch), batch.get("padding_mask"))

    def setup(self, stage: str) -> None:
        datamodule = getattr(self.trainer, "datamodule", None)
        if isinstance(datamodule, StayDataModule):
            self.follow(datamodule)
            if stage != "predict":
                self.check_task(datamodule)
        if stage == "fit":
            self._prepare_fit(datamodule)

    def configure_model(self) -> None:
        """Shards encoder and heads, where the strategy asks for it, and compiles, where the config does.

        Raises:
            UserError: they are adapted in a way that takes their weights apart itself.
        """
        if self.device_mesh is not None:
            training = self.config.training
            refuse_with_sharding(l2_sp=training.l2_sp, lora_rank=training.lora_rank)
            heads = [self.head, *(other.head for other in self.others.values())]
            shard([self.encoder, *heads], self.device_mesh["data_parallel"])
        if self.config.training.compile is not None:
            self.encoder.compile(mode=self.config.training.compile)

    def follow(self, datamodule: StayDataModule) -> None:
        """Agrees with the data on variables and scale: the checkpoint's, where there is one.

        Raises:
            UserError: the data cannot be fed to this encoder, or holds stays to be tested on that it may have
                been pretrained on.
        """
        training = self.config.training
        if self.card is not None and self.card.variables:
            datamodule.feed(self.card.variables, self.card.units, adapt=training.adapt_variables)
        if self._normalizer is not None and not training.refit_normalizer:
            datamodule.normalizer = Normalizer.from_dict(self._normalizer)
        check_shape(datamodule, self.encoder, self._accepts)
        if self.card is None or not self.card.variables:
            objective = self.card.objective if self.card else None
            self.card = data_card(datamodule, objective)
        else:
            now = datamodule.fingerprint()
            fed = set(range(len(datamodule.variables))) - set(datamodule.absent_columns)
            compare_views(self.card.data, now, [datamodule.variables[column] for column in fed])
            if not training.allow_other_split:
                refuse_other_split(self.card.data, now, datamodule.store.stays)
        self._normalizer = datamodule.normalizer.to_dict()

    def check_task(self, datamodule: StayDataModule) -> None:
        """Refuses data whose labels are not of the kind that this module was built for."""
        check_task(datamodule, self.config.task, self.encoder, self.head.config.n_outputs)
        for name, other in self.others.items():
            if name not in datamodule.also:
                raise UserError(f"the data module gives no labels of {name!r}: build it with also=[{name!r}]")
            tasks = datamodule.store.manifest.tasks
            check_kind(tasks[name], other.config, other.head.config.n_outputs)

    def _prepare_fit(self, datamodule: object) -> None:
        refuse_adaptation(self.config.training, self.trainer.world_size, pretrained=self._pretrained)
        # a checkpoint then holds the numbers, not what they are taken from
        first = self.hparams["config"]["task"]
        parts = [(self.config.task, self.head, self.task_loss, self.target, first)]
        for name, part in self.others.items():
            parts.append((part.config, part.head, part.loss, part.target, first["also"][name]))
        for task, head, loss, target, options in parts:
            if not needs_labels(task):
                continue
            if not isinstance(datamodule, StayDataModule):
                raise UserError(
                    "task.class_weight=balanced, and intervals of a survival task, need our data module: "
                    "give one number a class, and task.interval_ends, instead"
                )
            labels = datamodule.split_labels("train", task.task_name)
            options |= take_from_labels(task, head.config, loss, target, labels)
            loss.to(self.device)

    def _prepare_adaptation(self) -> None:
        training = self.config.training
        self._n_layers = count_layers(self.encoder, training)
        self._low_rank: list[str] = []
        if training.lora_rank is not None:
            self._low_rank = add_lora(
                self.encoder, training.lora_rank, training.lora_alpha, training.lora_layers
            )
        static = torch.zeros(self.encoder.config.d_input or 0, dtype=torch.bool)
        static[list(self.encoder.config.static_columns)] = True
        self.register_buffer("static", static, persistent=False)
        self.start = StartingPoint(self.encoder) if training.l2_sp else None
        self._train_layers(epoch=0)

    def _train_layers(self, epoch: int) -> None:
        """What the checkpoint did not hold, or pretraining did not train, is trained in any case."""
        self._trained = trained_layers(self.config.training, epoch, self._n_layers)
        fresh = {*self._fresh, *map(name_within, self._fresh)}
        train_layers(self.encoder, self._trained, always=fresh.union(self._low_rank))
        self.train(self.training)

    def train(self, mode: bool = True) -> FineTuneModule:
        """A frozen encoder stays in eval mode: no dropout, no moving statistics."""
        super().train(mode)
        if not self._trained and not self._low_rank:
            self.encoder.eval()
        return self

    def on_train_start(self) -> None:
        self.means["train"].resume(self)
        self._unfreeze_in_time()  # a run that is resumed in mid-epoch starts no epoch
        if not self._trained and not self._pretrained:
            log.warning("the encoder is frozen and was never trained: there is no checkpoint")

    def on_train_epoch_start(self) -> None:
        """Unfreezes the encoder, or its next layer, when its epoch has come."""
        self._unfreeze_in_time()

    def _unfreeze_in_time(self) -> None:
        before = self._trained
        self._train_layers(self.current_epoch)
        if self._trained > before:
            layers = "" if self._trained == self._n_layers else f"'s highest {self._trained} layers"
            log.info("epoch %d: the encoder%s learns from here on", self.current_epoch, layers)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        log_rate(self, batch_idx)
        # dropout follows from the step alone, so that a resumed run repeats it
        micro_batch = self.trainer.fit_loop.total_batch_idx
        seed_globally(self.device, self.config.seed, "dropout", micro_batch, self.global_rank)

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        training = self.config.training
        if training.hide_steps or training.hide_variables:
            batch = hide(batch, training.hide_steps, training.hide_variables, self.static)
        loss = self._step(batch, "train", batch_idx)
        return loss if self.start is None else loss + training.l2_sp * self.start(self.encoder)

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        return self._step(batch, "val", batch_idx)

    def test_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        return self._step(batch, "test", batch_idx)

    def predict_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """What each sample is, and its label, beside the predictions."""
        embedding = self._embed(batch)
        outputs = predict(self.head, embedding, batch.get("padding_mask"))
        about = ("stay_id", "patient_id", "prediction_time", "times", "label", "label_mask")
        kept = {key: batch[key] for key in about if key in batch}
        for other in self.others.values():
            kept |= other.predicted(embedding, batch)
        return {"probs": outputs["probs"], **kept, **extras(self.head.config, self.target, outputs)}

    def _step(self, batch: Mapping[str, Tensor], stage: str, batch_idx: int) -> Tensor:
        embedding = self._embed(batch)
        outputs = predict(self.head, embedding, batch.get("padding_mask"))
        label, label_mask = batch["label"], batch.get("label_mask")
        loss: Tensor = self.task_loss(outputs["logits"], self.target(label), label_mask)
        count(self.metrics[f"of_{stage}"], self.target, outputs["probs"], label, label_mask)
        parts = {self.config.task.task_name: loss.detach()} if self.others else {}
        for name, other in self.others.items():
            part = other.step(embedding, batch, stage)
            loss, parts[name] = loss + other.weight * part, part.detach()
        losses = {f"{stage}/loss": loss} | {f"{stage}/{name}/loss": part for name, part in parts.items()}
        self.means[stage].add(losses, len(label), first=batch_idx == 0)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        log_loss(self, self.means["train"], batch_idx)

    def on_train_epoch_end(self) -> None:
        self._log_metrics("train")

    def on_validation_epoch_end(self) -> None:
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        self._log_metrics("test")

    def _log_metrics(self, stage: str) -> None:
        self.means[stage].end(self)
        scores = take_scores(self.metrics, stage, stage)
        for name, other in self.others.items():
            scores |= take_scores(other.metrics, stage, f"{stage}/{name}")
        self.log_dict(scores, sync_dist=True)  # the same on every rank already

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimizer over all parameters, also those unfrozen later, and the schedule where there is one."""
        training, lr = self.config.training, self.config.optimizer.lr
        decays = not training.l2_sp  # which pulls elsewhere
        settings = encoder_settings(self.encoder, lr, training.layer_decay, decays=decays)
        heads = nn.ModuleList([self.head, *(other.head for other in self.others.values())])
        settings += [(parameter, Setting(training.head_lr or lr)) for parameter in heads.parameters()]
        groups = parameter_groups(settings)
        return optimizer_and_schedule(self, self.config.optimizer, self.config.scheduler, groups)

    def get_encoder(self) -> BaseEncoder:
        """The encoder."""
        return self.encoder

    def get_task_head(self) -> BaseTaskHead:
        """The task head."""
        return self.head

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        more = {"fresh": self._fresh, "means": self.means["train"].state_dict(self)}
        checkpoint["slices"] = pack_card(self.card, self._normalizer) | more

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        packed = checkpoint.get("slices") or {}
        self.card, self._normalizer = unpack_card(packed)
        self._fresh, self._pretrained = list(packed.get("fresh", ())), True
        self.means["train"].load_state_dict(packed.get("means"))
        self._train_layers(epoch=0)
