"""``slices-pretrain``: an encoder from unlabelled stays."""

from __future__ import annotations

import logging
import shlex

from omegaconf import DictConfig

from slices.training.apps.launch import checking_what_was_asked, launch

log = logging.getLogger(__name__)


def pretrain(config: DictConfig) -> float:
    """Pretrains, writes the encoder, says what to do next. Returns the validation loss, if there is one."""
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
    trainer.save_checkpoint(run.folder / "checkpoints" / "last.ckpt")  # what encoder.pt is taken from
    if trainer.is_global_zero:
        encoder = module.save_encoder(run.folder / "encoder.pt")
        log.info("encoder: %s, after %s", encoder, run.cost)
        if parsed.encoder_path is not None:
            encoder = module.save_encoder(parsed.encoder_path)
        same_data = [shlex.quote(word) for word in run.overrides if word.startswith(("data=", "data."))]
        log.info("next: hatch run train:finetune %s", " ".join([*same_data, f"checkpoint_path={encoder}"]))
    metrics = trainer.callback_metrics
    return float(metrics["val/loss" if "val/loss" in metrics else "train/loss"])


def main() -> None:
    launch("pretrain", pretrain)


if __name__ == "__main__":
    main()
