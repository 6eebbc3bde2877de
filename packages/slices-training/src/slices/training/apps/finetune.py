"""``slices-finetune``: from an encoder to predictions."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from slices.training.apps.launch import checking_what_was_asked, launch
from slices.training.compose import command
from slices.training.memory import models_that_fit, require_room

if TYPE_CHECKING:
    from slices.training import FineTuneModule, StayDataModule
    from slices.training.apps.run import Run
    from slices.training.config import FineTuneConfig

log = logging.getLogger(__name__)


def finetune(config: DictConfig) -> float:
    """Trains, tests the best epoch, writes what it predicts of val and test. Returns the best val score."""
    from lightning.pytorch import seed_everything

    from slices.training.adaptation.fitting import Fitting
    from slices.training.apps.predictions import of_all_ranks
    from slices.training.apps.ranks import check_direction
    from slices.training.apps.run import Run, announce, going_on, make_trainer, summarise
    from slices.training.config import FineTuneConfig
    from slices.training.report.finetuning import finetuning_page
    from slices.training.report.leaving import leaving_report

    with checking_what_was_asked(), models_that_fit():
        run = Run.start(config)
        parsed = FineTuneConfig.parse(run.config)
        seed_everything(parsed.seed, verbose=False)
        module, datamodule = _module_and_data(parsed, run)
        require_room(module)
        fitting = Fitting(module, parsed.training, datamodule, run.folder / "checkpoints")
        check_direction(fitting.monitor, fitting.best.mode)
        trainer = make_trainer(run, parsed, fitting.callbacks)

    about = {"model": _name(module), **announce(trainer, module, datamodule.sizes)}
    learns = {"model": _name(module), "task": module.config.task.task_name}
    with (
        leaving_report(run.folder, lambda: finetuning_page(run.folder, about)),
        run.recording(trainer, datamodule, learns, parsed.checkpoint_path) as outcome,
        going_on(run, trainer),
    ):
        best, score = fitting.fit(trainer, run.last_checkpoint)
        how: dict[str, Any] = {"ckpt_path": best, "weights_only": True}
        (scores,) = trainer.test(module, datamodule=datamodule, verbose=False, **how)
        outcome.metrics, outcome.file = {fitting.monitor: score, **scores}, Path(best)
        batches = {}
        for split in ("val", "test"):
            batches[split] = of_all_ranks(trainer.predict(module, datamodule.loader(split), **how))
        if trainer.is_global_zero:
            files = _write(run, module, datamodule, batches, best)
            summarise(run, trainer, module, dict(sorted(outcome.metrics.items())) | files)
            log.info("next: %s predictions=[%s]", command("evaluate"), files["predictions"])
            log.info("or, for new stays: %s model=%s data=...", command("predict"), run.folder)
    return score


def _write(
    run: Run, module: FineTuneModule, datamodule: StayDataModule, batches: dict[str, list[Any]], best: str
) -> dict[str, Path]:
    """Predictions, and for new stays a file a task: what is where. Says what is predicted."""
    from slices.training import FineTuneModule
    from slices.training.apps.predictions import show_predictions, write_predictions
    from slices.training.module_checkpoint import load_module
    from slices.training.serving import save_model
    from slices.training.serving.build import trained_models
    from slices.training.serving.ensemble import MODEL_FILE
    from slices.training.sharding import is_sharded

    if is_sharded(module):
        module = load_module(FineTuneModule, best)
    file = write_predictions(
        run.folder / "predictions.parquet",
        batches,
        module.head.config,
        model=_name(module),
        step_hours=datamodule.view.bin_width if datamodule.labels_a_step else None,
        others=[other.head.config for other in module.others.values()],
    )
    log.info("%s", show_predictions(file, datamodule.task))
    first, *others = trained_models(module, datamodule, file, name=_name(module)).values()
    saved = save_model(run.folder / MODEL_FILE, first)
    of_tasks = {
        f"model of {model.task.task_name}": save_model(
            run.folder / f"{model.task.task_name}.safetensors", model
        )
        for model in others
    }
    return {"predictions": file, "checkpoint": Path(best), "model": saved, **of_tasks}


def _name(module: FineTuneModule) -> str:
    """Encoder and objective, as the benchmark names them."""
    assert module.config.encoder is not None
    objective = module.card.objective if module.card else None
    return f"{module.config.encoder.name}+{objective or 'none'}"


def _module_and_data(parsed: FineTuneConfig, run: Run) -> tuple[FineTuneModule, StayDataModule]:
    from slices.training import FineTuneModule, StayDataModule
    from slices.training.module_checkpoint import load_module

    if parsed.data is None:
        raise ValueError("section 'data' is missing: choose one, as in data=synthetic")
    if run.last_checkpoint is not None:  # the file it started from may have changed since
        module = load_module(FineTuneModule, run.last_checkpoint)
    else:
        _check_checkpoint(parsed)
        module = FineTuneModule(run.config)
    task = module.config.task
    datamodule = StayDataModule(
        parsed.data, task=task.task_name, per_step=task.per_step, seed=parsed.seed, also=tuple(task.also)
    )
    datamodule.prepare_data()
    datamodule.setup("fit")
    module.follow(datamodule)
    module.check_task(datamodule)
    for split in ("val", "test"):
        if datamodule.sizes[split] == 0:
            raise ValueError(
                f"no {split} stays: set data.splits so that there are some (val chooses the epoch)"
            )
    return module, datamodule


def _check_checkpoint(parsed: FineTuneConfig) -> None:
    path = parsed.checkpoint_path
    if path is None and parsed.training.freeze_encoder:
        raise ValueError(
            "training.freeze_encoder=true without a checkpoint keeps an encoder that nobody trained: give "
            "checkpoint_path=..., or training.freeze_encoder=false to train everything from scratch"
        )
    if path is not None and not Path(path).is_file():
        raise FileNotFoundError(
            f"no encoder at {path}: run `{command('pretrain')}` first, give checkpoint_path=..., or "
            "checkpoint_path=null training.freeze_encoder=false to train from scratch"
        )


def main() -> None:
    launch("finetune", finetune)


if __name__ == "__main__":
    main()
