"""``slices-pretrain``: an encoder from unlabelled stays."""

from __future__ import annotations

import logging
import os
import shlex
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from slices.training.apps.launch import checking_what_was_asked, launch
from slices.training.compose import command
from slices.training.errors import FailedRun
from slices.training.memory import models_that_fit, require_room

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from slices.training import SSLPretrainModule, StayDataModule

log = logging.getLogger(__name__)


def pretrain(config: DictConfig) -> float:
    """Pretrains, writes the encoder, says what to do next. Returns what a sweep goes by.

    That is the AUROC of the probe, where ``watch.task`` is given, else the validation loss, if there is one.
    A run that was complete already, and is resumed, is not trained further.
    """
    from lightning.pytorch import seed_everything

    from slices.training import SSLPretrainModule, StayDataModule
    from slices.training.apps.ranks import check_direction
    from slices.training.apps.run import Run, announce, going_on, make_trainer, summarise
    from slices.training.callbacks import SHOWN
    from slices.training.config import PretrainConfig
    from slices.training.newest import Newest
    from slices.training.report.leaving import leaving_report
    from slices.training.report.pretraining import pretraining_page
    from slices.training.watching import Watch

    with checking_what_was_asked(), models_that_fit():
        run = Run.start(config)
        parsed = PretrainConfig.parse(run.config)
        if parsed.data is None:
            raise ValueError("section 'data' is missing: choose one, as in data=synthetic")
        if parsed.encoder_path is not None:
            _check_writable(parsed.encoder_path)
        per_step = None if parsed.labels is None else False
        datamodule = StayDataModule(parsed.data, task=parsed.labels, per_step=per_step, seed=parsed.seed)
        datamodule.prepare_data()
        datamodule.setup("fit")
        seed_everything(parsed.seed, verbose=False)
        module = SSLPretrainModule(run.config)
        require_room(module)
        watch = None if parsed.watch is None else Watch(parsed.watch, datamodule)
        watched = None if parsed.watch is None else parsed.watch.task
        if watched is None:
            check_direction("val/loss (give watch.task, and it goes by a probe)", "min")
        else:
            check_direction("probe/auroc", "max")
        newest = Newest(run.folder / "checkpoints", parsed.training.checkpoint_every_n_steps)
        callbacks = [newest, *([] if watch is None else [watch])]
        trainer = make_trainer(run, parsed, callbacks)

    log.info("encoder %s, objective %s", parsed.encoder.name, parsed.ssl.name)
    about = {"encoder": parsed.encoder.name, "objective": parsed.ssl.name}
    about |= announce(trainer, module, datamodule.sizes)
    learns = {"model": parsed.encoder.name, "objective": parsed.ssl.name}
    with (
        leaving_report(run.folder, lambda: pretraining_page(run.folder, about)),
        run.recording(trainer, datamodule, learns) as outcome,
        going_on(run, trainer),
    ):
        trainer.fit(module, datamodule=datamodule, ckpt_path=run.last_checkpoint, weights_only=True)
        encoder = kept = module.save_encoder(run.folder / "encoder.pt")
        collapsed = watch.wrong if watch is not None and watch.config.on_collapse == "stop" else None
        if parsed.encoder_path is not None and collapsed is None:
            encoder = module.save_encoder(parsed.encoder_path)
        if collapsed is not None and trainer.is_global_zero:
            raise FailedRun(
                f"the embedding collapsed to {collapsed}: the run ended at step {trainer.global_step}, "
                f"and its encoder is in {run.folder} alone"
            )
        score = _metric(trainer, module, datamodule, watched)
        metrics = outcome.metrics = trainer.callback_metrics
        outcome.file = newest.path
        shown = {name: float(metrics[name]) for name in SHOWN if name in metrics}
        summarise(run, trainer, module, shown | {"encoder": kept})
        of_data = ("data=", "data.", "data/", "+data.", "++data.")
        same_data = [shlex.quote(word) for word in run.overrides if word.startswith(of_data)]
        log.info("next: %s", " ".join([command("finetune"), *same_data, f"checkpoint_path={encoder}"]))
    return score


def _metric(
    trainer: Trainer, module: SSLPretrainModule, datamodule: StayDataModule, watched: str | None
) -> float:
    """The probe's AUROC of the task that is watched, else the last loss, of validation if there is one.

    Where nothing was left to train there is none yet: the loss is that of a pass over these stays.
    """
    from slices.training.apps.ranks import sweep_direction

    metrics = trainer.callback_metrics
    if watched is not None and "probe/auroc" in metrics:
        return float(metrics["probe/auroc"])
    if not {"train/loss", "val/loss"} & metrics.keys():
        log.info("the run is complete: there was nothing left to train")
        split = "val" if datamodule.sizes["val"] else "train"
        trainer.validate(module, datamodule.loader(split), verbose=False)
        metrics = trainer.callback_metrics
    if watched is not None and sweep_direction() is not None:  # a loss in its place would be of another kind
        raise FailedRun(f"watch.task={watched}: there is no probe's AUROC for the sweep to go by (see above)")
    return float(metrics["val/loss" if "val/loss" in metrics else "train/loss"])


def _check_writable(path: str) -> None:
    """Makes the folder of what is written in the end; raises ``ValueError`` where that cannot be."""
    from slices.encoders.files import checked_path

    target = checked_path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"encoder_path={path} cannot be written ({error}): give another, or null") from error
    if target.is_dir() or not os.access(target.parent, os.W_OK):
        raise ValueError(f"encoder_path={path} cannot be written: give another, or null")


def main() -> None:
    launch("pretrain", pretrain)


if __name__ == "__main__":
    main()
