"""``slices-pretrain``: an encoder from unlabelled stays."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from omegaconf import DictConfig

from slices.training.apps.launch import checking_what_was_asked, launch

log = logging.getLogger(__name__)


def pretrain(config: DictConfig) -> float:
    """Pretrains, writes the encoder, says what to do next. Returns the validation loss."""
    from lightning.pytorch import seed_everything
    from lightning.pytorch.callbacks import ModelCheckpoint

    from slices.training import SSLPretrainModule, StayDataModule
    from slices.training.apps.run import Run, announce, make_trainer
    from slices.training.config import PretrainConfig

    with checking_what_was_asked():
        run = Run.start(config)
        parsed = PretrainConfig.parse(run.config)
        if parsed.data is None:
            raise ValueError("section 'data' is missing: choose one, as in data=synthetic")
        datamodule = StayDataModule(parsed.data, seed=parsed.seed)
        datamodule.prepare_data()
        datamodule.setup("fit")
        seed_everything(parsed.seed, verbose=False)
        module = SSLPretrainModule(run.config)
        checkpoints = ModelCheckpoint(
            dirpath=run.folder / "checkpoints",
            filename="{step}",
            save_last=True,
            every_n_train_steps=parsed.training.checkpoint_every_n_steps,
        )
        trainer = make_trainer(run, parsed.trainer, parsed.wandb, [checkpoints])

    announce(trainer, module, datamodule.sizes)
    trainer.fit(module, datamodule=datamodule, ckpt_path=run.last_checkpoint, weights_only=True)
    if trainer.is_global_zero:
        encoder = module.save_encoder(run.folder / "encoder.pt")
        log.info("encoder: %s, after %s", encoder, run.cost)
        _say_what_next(encoder, parsed.encoder_path, run.config)
    return float(trainer.callback_metrics["val/loss"])


def _say_what_next(encoder: Path, copy: str | None, config: DictConfig) -> None:
    if copy is not None:
        Path(copy).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(encoder, copy)
    data = "" if config.data.source.name == "synthetic" else f" data={config.data.source.name}"
    log.info("next: hatch run train:finetune%s checkpoint_path=%s", data, copy or encoder)


def main() -> None:
    launch("pretrain", pretrain)


if __name__ == "__main__":
    main()
