"""``SSLPretrainModule``: any encoder under any self-supervised objective."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from omegaconf import DictConfig
from torch import Tensor, nn

from slices.encoders import BaseEncoder, EncoderCard, Normalizer, build_encoder, save_encoder
from slices.ssl import build_ssl_objective
from slices.ssl.encoding import INPUTS, accepted_inputs, complete, pool_stay
from slices.training.activation_checkpointing import recompute_blocks
from slices.training.agreement import check_shape, refuse_unseen_times, shaped
from slices.training.batch import keywords
from slices.training.card import as_normalizer, data_card, pack_card, unpack_card
from slices.training.config import PretrainConfig, plain
from slices.training.data.datamodule import StayDataModule
from slices.training.epoch_means import means_of
from slices.training.errors import UserError
from slices.training.optim import optimizer_and_schedule
from slices.training.seeding import generator, seed_globally
from slices.training.sharding import is_sharded, shard, whole_state
from slices.training.step_logs import log_loss, log_rate

log = logging.getLogger(__name__)


class SSLPretrainModule(L.LightningModule):
    """Pretrains the encoder that ``config.encoder`` names under the objective that ``config.ssl`` names.

    Args:
        config: sections ``encoder``, ``ssl``, ``optimizer`` and optionally ``scheduler``; a whole
            ``configs/pretrain.yaml``, composed or only loaded, will do. ``encoder.d_input`` and the static
            columns not given are taken from the ``data`` section.

    Raises:
        ValueError, TypeError: the config names something unknown or of the wrong type.

    >>> module = SSLPretrainModule({
    ...     "encoder": {"name": "gru", "d_input": 5, "d_model": 16},
    ...     "ssl": {"name": "mae", "mask_ratio": 0.5},
    ...     "optimizer": {"name": "adamw", "lr": 1.0e-3},
    ... })
    >>> loss, metrics = module(torch.randn(2, 8, 5), torch.rand(2, 8, 5) > 0.5)
    >>> loss.shape
    torch.Size([])
    """

    def __init__(self, config: Mapping[str, Any] | DictConfig) -> None:
        super().__init__()
        self.config = with_data_shape(PretrainConfig.parse(config))
        self.save_hyperparameters({"config": self._portable_config()})
        encoder = build_encoder(self.config.encoder.name, self.config.encoder.config)
        self.objective = build_ssl_objective(encoder, self.config.ssl)
        self.untouched = freeze_untouched(self.objective, encoder.d_input)
        if self.config.training.activation_checkpointing:
            recompute_blocks(encoder)
        self.card: EncoderCard | None = None
        self._normalizer: dict[str, Any] | None = None  # plain: a submodule would move with this one
        if bool(self.config.labels) != self.objective.reads_labels and self.config.data is not None:
            raise UserError(_about_labels(self.config))
        self._accepts = accepted_inputs(self.objective)
        self._looks_at = self._accepts & (accepted_inputs(encoder) | {"draw"})
        self._times_checked = False
        self._total_steps = 0
        self.means = means_of(("train", "val"), self.config.training.on_nonfinite)

    @property
    def normalizer(self) -> Normalizer | None:
        """A copy of the normaliser of the data that this module was trained on."""
        return as_normalizer(self._normalizer)

    def _portable_config(self) -> dict[str, Any]:
        """What rebuilds this module anywhere: plain values, and no data to look at."""
        parts = ("encoder", "ssl", "optimizer", "scheduler", "seed")
        return {part: plain(getattr(self.config, part)) for part in parts}

    def forward(
        self,
        timeseries: Tensor,
        mask: Tensor,
        padding_mask: Tensor | None = None,
        times: Tensor | None = None,
        counts: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective's loss and metrics; what it hides is drawn from the global random state."""
        given = {"mask": mask, "padding_mask": padding_mask, "times": times, "counts": counts}
        self._check_times(given)
        loss, metrics = self.objective(timeseries, **keywords(given, self._accepts))
        return loss, metrics

    @torch.no_grad()
    def embed(self, batch: Mapping[str, Any]) -> Tensor:
        """The mean of the encoder's tokens (B, H) of each stay of a batch."""
        inputs = complete(batch["timeseries"], **keywords(batch, frozenset(INPUTS)))
        return pool_stay(self.objective.encode(inputs))

    def _check_times(self, batch: Mapping[str, Any]) -> None:
        """Once: of the first batch."""
        if not self._times_checked:
            refuse_unseen_times(batch, self._looks_at)
            self._times_checked = True

    def setup(self, stage: str) -> None:
        datamodule = getattr(self.trainer, "datamodule", None)
        if isinstance(datamodule, StayDataModule):
            check_shape(datamodule, self.get_encoder(), self._looks_at)
            card = data_card(datamodule, self.config.ssl.name)
            self.card = dataclasses.replace(card, data=card.data | {"untrained": self._untrained_encoder})
            self._normalizer = datamodule.normalizer.to_dict()

    @property
    def _untrained_encoder(self) -> list[str]:
        """Parameters of the encoder that the objective does not train."""
        return [name.removeprefix("encoder.") for name in self.untouched if name.startswith("encoder.")]

    def configure_model(self) -> None:
        """Shards the objective, where the strategy asks for it, and compiles it, where the config does."""
        if self.device_mesh is not None:
            shard([self.objective], self.device_mesh["data_parallel"], also_called=["encode"])
        if self.config.training.compile is not None:
            self.objective.compile(mode=self.config.training.compile)

    def on_train_start(self) -> None:
        self._total_steps = int(min(self.trainer.estimated_stepping_batches, sys.maxsize))
        self.means["train"].resume(self)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        log_rate(self, batch_idx)
        # dropout follows from the step alone, so that a resumed run repeats it
        seed_globally(self.device, self.config.seed, "dropout", self._micro_batch, self.global_rank)

    @property
    def _micro_batch(self) -> int:
        return self.trainer.fit_loop.total_batch_idx

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        loss, means = self._step(batch, "train", self._micro_batch, self.global_rank)
        self.means["train"].add(means, len(batch["mask"]), first=batch_idx == 0)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        log_loss(self, self.means["train"], batch_idx)

    def on_train_epoch_end(self) -> None:
        self.means["train"].end(self)

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        loss, means = self._step(batch, "val", batch_idx, 0)
        self.means["val"].add(means, len(batch["mask"]), first=batch_idx == 0)
        return loss

    def on_validation_epoch_end(self) -> None:
        self.means["val"].end(self)

    def _step(
        self, batch: Mapping[str, Tensor], stage: str, index: int, rank: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and what is logged of it by the epoch."""
        x = batch["timeseries"]
        self._check_times(batch)
        if self.objective.reads_labels and batch.get("label") is None:
            raise UserError(_about_labels(self.config))
        given: dict[str, Any] = keywords(batch, self._accepts)
        if "draw" in self._accepts:
            random = generator(x.device, self.config.seed, stage, index, rank)
            padding_mask, times = batch.get("padding_mask"), batch.get("times")
            given["draw"] = self.objective.draw(x, batch["mask"], padding_mask, times, random)
        loss, metrics = self.objective(x, **given)
        return loss, {f"{stage}/{name}": value for name, value in {"loss": loss, **metrics}.items()}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One optimizer step, then the teacher's: once, however many batches it accumulates."""
        step = self.trainer.global_step + 1
        super().optimizer_step(*args, **kwargs)
        self.objective.on_optimizer_step(step, self._total_steps)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimizer over all parameters, and the schedule where there is one."""
        return optimizer_and_schedule(self, self.config.optimizer, self.config.scheduler)

    def get_encoder(self) -> BaseEncoder:
        """The encoder being pretrained."""
        return cast(BaseEncoder, self.objective.encoder)

    def save_encoder(self, path: str | Path) -> Path:
        """Writes the encoder, its normaliser and its variables to ``.pt`` or ``.safetensors``.

        Of several ranks all must ask for it, as each may hold a share, and rank 0 writes.
        """
        card, encoder = self.card or EncoderCard(objective=self.config.ssl.name), self.get_encoder()
        if is_sharded(encoder):
            state = whole_state(encoder)
            encoder = build_encoder(self.config.encoder.name, self.config.encoder.config)
            encoder.load_state_dict(state)
        if self.global_rank == 0:
            save_encoder(path, encoder, normalizer=self.normalizer, card=card)
        return Path(path)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        means = self.means["train"].state_dict(self)
        checkpoint["slices"] = pack_card(self.card, self._normalizer) | {"means": means}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        packed = checkpoint.get("slices") or {}
        self.card, self._normalizer = unpack_card(packed)
        self.means["train"].load_state_dict(packed.get("means"))


def with_data_shape(config: PretrainConfig) -> PretrainConfig:
    """The config with number of variables and static columns filled in from its data, where not given."""
    encoder = shaped(config.encoder, config.data)
    given = encoder.config
    if config.ssl.static_columns not in ((), given.static_columns):
        raise UserError(
            f"ssl.static_columns={config.ssl.static_columns}, but the encoder's are {given.static_columns}: "
            "leave them out of the ssl section"
        )
    ssl = dataclasses.replace(config.ssl, d_input=given.d_input, static_columns=given.static_columns)
    return dataclasses.replace(config, encoder=encoder, ssl=ssl)


def _about_labels(config: PretrainConfig) -> str:
    name = config.ssl.name
    if config.labels:
        return f"labels={config.labels}, but ssl={name} reads none: leave it out, or use another ssl"
    return f"ssl={name} reads labels: name the task that they are of, as in labels=mortality"


def freeze_untouched(objective: nn.Module, n_variables: int) -> list[str]:
    """Freezes, and names, the parameters that the objective's loss does not reach (an unused pooling, say).

    Found by one backward pass over random stays; random state and buffers are left as they were. Call it
    before there is a process group: on one that has no CPU backend the losses could not be gathered.
    """
    buffers = {name: buffer.clone() for name, buffer in objective.named_buffers()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        device = next(objective.parameters()).device
        x = torch.randn(4, 16, n_variables, device=device)
        loss, _ = objective(x, torch.rand_like(x) < 0.5)
        loss.backward()
    untouched = [name for name, p in objective.named_parameters() if p.requires_grad and p.grad is None]
    objective.zero_grad(set_to_none=True)
    for name, buffer in objective.named_buffers():
        buffer.copy_(buffers[name])
    for name in untouched:
        objective.get_parameter(name).requires_grad_(False)
    if untouched:
        log.info("frozen, as the objective does not reach them: %s", ", ".join(untouched))
    return untouched
