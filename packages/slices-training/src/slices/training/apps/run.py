"""A run: its folder, its config, its trainer, and what it cost."""

from __future__ import annotations

import logging
import os
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from omegaconf import DictConfig, OmegaConf

from slices.encoders.files import brief
from slices.training.apps.folder import refuse_other_run, set_aside
from slices.training.apps.loggers import Curves, asked_loggers
from slices.training.apps.ranks import in_a_sweep, is_rank_zero, only_rank_zero_speaks
from slices.training.apps.record import Outcome, recording
from slices.training.budget import Budget, duration
from slices.training.callbacks import Begun, EpochLine
from slices.training.checkpoint_io import LAST, AtomicCheckpointIO, candidates, newest_whole
from slices.training.compose import command
from slices.training.config import FineTuneConfig, PretrainConfig
from slices.training.data.datamodule import StayDataModule
from slices.training.errors import FailedRun, UserError
from slices.training.finite import FiniteGuard
from slices.training.memory import resident_by_rusage, told_of_memory
from slices.training.preemption import Preemption
from slices.training.pretrained import n_parameters
from slices.training.progress import ProgressBar, show_summary, terminal
from slices.training.quiet import quiet_lightning
from slices.training.sharding import FSDP2, Sharded
from slices.training.yaml_files import read_config, read_words

log = logging.getLogger(__name__)
AUTO = "auto"  # resume=auto: the same command begins a run, and goes on with it
CHECKPOINTS = "checkpoints"


class Cost:
    """What has been spent since the process, or this object, began, child processes included; print it."""

    def __init__(self) -> None:
        self.began = time.perf_counter()

    def __str__(self) -> str:
        own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        wall = time.perf_counter() - self.began
        cpu = sum(usage.ru_utime + usage.ru_stime for usage in (own, children))
        whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        memory = max(resident_by_rusage(who) for who in whose) / 1e9
        return f"{duration(wall)} ({cpu / 60:.1f} CPU-minutes, {memory:.1f} GB at most)"


@dataclass
class Run:
    """The folder in which a run leaves everything, the config it runs with, and what was typed for it."""

    folder: Path
    config: DictConfig
    overrides: list[str]
    last_checkpoint: Path | None = None
    """Where a resumed run goes on."""
    cost: Cost = field(default_factory=Cost)

    @classmethod
    def start(cls, config: DictConfig) -> Run:
        """A new run in Hydra's output folder, or the one that ``resume`` names, with its own config.

        Raises:
            ValueError, FileNotFoundError: there is nothing to resume, or more is asked than to resume.
        """
        quiet_lightning()
        only_rank_zero_speaks()
        hydra = HydraConfig.get()
        typed = list(hydra.overrides.task)
        folder, resume = Path(hydra.runtime.output_dir), config.get("resume")
        if resume == AUTO:
            _refuse_passing_folder(hydra.overrides.hydra)
            typed = [word for word in typed if not word.startswith("resume=")]
            is_begun = any(path.is_file() for path in candidates(folder / CHECKPOINTS))
            resume = folder if is_begun else None
            if resume is not None:
                _refuse_other_settings(folder, typed)
                typed = []
        if resume is not None:
            return cls._resume(Path(str(resume)), typed, folder)
        if is_rank_zero():
            if in_a_sweep():  # which may be repeated in its own folders
                set_aside(folder / CHECKPOINTS)
            refuse_other_run(folder, folder / CHECKPOINTS)
            OmegaConf.save(config, folder / "config.yaml", resolve=True)
            OmegaConf.save(OmegaConf.create(typed), folder / "overrides.yaml")
        return cls(folder, config, typed)

    @classmethod
    def _resume(cls, folder: Path, typed: list[str], locked: Path) -> Run:
        if extra := [word for word in typed if not word.startswith("resume=")]:
            raise ValueError(
                f"resume goes on with the run's own settings: drop {' '.join(extra)}, or start a new run"
            )
        written = [folder / name for name in ("config.yaml", "overrides.yaml", CHECKPOINTS)]
        for needed in written:
            if not needed.exists():
                raise FileNotFoundError(f"nothing to resume: {needed} is missing. Give the folder of a run")
        if folder.resolve() != locked.resolve():
            raise ValueError(f"resume={folder} goes on there, not in {locked}: leave out hydra.run.dir")
        config, overrides = read_config(written[0]), read_words(written[1])
        checkpoint = newest_whole(written[-1])
        log.info("going on with the run in %s", folder)
        return cls(folder, config, overrides, checkpoint)

    def recording(
        self,
        trainer: Trainer,
        datamodule: StayDataModule,
        learns: Mapping[str, str],
        starts_from: str | None = None,
    ) -> AbstractContextManager[Outcome]:
        """Within it, ``record.yaml`` says what is done here, and in the end how it went.

        ``learns``: the names of the model, and of the objective or the task.
        """
        return recording(
            self.folder,
            starts_from=starts_from,
            resumed=self.last_checkpoint is not None,
            overrides=self.overrides,
            learns=dict(learns),
            seed=self.config.seed,
            data=datamodule.fingerprint(),
            device=_device(trainer),
            precision=str(trainer.precision),
            deterministic=_deterministic(),
        )


def _refuse_passing_folder(typed: Sequence[str]) -> None:
    """Raises ``ValueError`` where the folder of the run is one that another start would not find."""
    option = "hydra.sweep.dir" if in_a_sweep() else "hydra.run.dir"
    if not any(word.startswith(f"{option}=") for word in typed):
        raise ValueError(
            "resume=auto goes on with the run in its folder, where there is one: name it, as in "
            f"{option}=outputs/pretrain/mine"
        )


def _refuse_other_settings(folder: Path, typed: list[str]) -> None:
    before = set(read_words(folder / "overrides.yaml"))
    if other := " ".join(sorted(before ^ set(typed))):
        raise ValueError(
            f"the run in {folder} was begun with other settings ({other}): give the same, or another "
            "hydra.run.dir"
        )


@contextmanager
def going_on(run: Run, trainer: Trainer) -> Iterator[None]:
    """Within it, what goes wrong in a resumed run before it trains is the fault of its checkpoint."""
    (begun,) = (callback for callback in trainer.callbacks if isinstance(callback, Begun))  # type: ignore[attr-defined]
    try:
        with told_of_memory(FailedRun):
            yield
    except (UserError, FailedRun, OSError):
        raise
    except Exception as error:  # whatever states that nobody wrote lead to
        if begun.yes or run.last_checkpoint is None:
            raise
        raise UserError(
            f"cannot resume from {run.last_checkpoint}: it does not hold the states of this run "
            f"({type(error).__name__}: {brief(error)}). Put an older .ckpt of it there, or start a new run"
        ) from error


def make_trainer(run: Run, config: PretrainConfig | FineTuneConfig, callbacks: list[Callback]) -> Trainer:
    """Lightning's trainer, with the run's folder, loggers and atomic checkpoints.

    Raises ``UserError`` for options that it refuses.
    """
    options = dict(config.trainer)
    curves = Curves(run.folder)
    loggers = [curves, *asked_loggers(run.folder, config.loggers)]
    console = terminal() if options.pop("enable_progress_bar", True) else None
    go_on = f"{command(str(HydraConfig.get().job.config_name))} resume={run.folder}"
    newest = run.folder / CHECKPOINTS / LAST
    guard = FiniteGuard(
        config.training.on_nonfinite,
        run.folder / "bad_steps" if config.training.keep_bad_batch else None,
        newest,
        f": `{go_on}` goes on with it, by the settings in {run.folder / 'config.yaml'}",
    )
    shown: Callback = EpochLine() if console is None else ProgressBar(console, curves.newest)
    own: list[Callback] = [Begun(), Budget(), guard, Preemption(newest, go_on), shown]
    if options.get("strategy") == FSDP2:
        options["strategy"] = Sharded()
    plugins: list[Any] = [AtomicCheckpointIO()]
    if "SLURM_NTASKS" in os.environ and not TorchElasticEnvironment.detect() and SLURMEnvironment.detect():
        plugins.append(SLURMEnvironment(auto_requeue=False))  # Preemption does that
    try:
        return Trainer(
            **{"enable_model_summary": False, "num_sanity_val_steps": 0} | options,
            enable_progress_bar=False,  # Lightning's
            default_root_dir=run.folder,
            logger=loggers,
            plugins=plugins,
            callbacks=[*callbacks, *own],
        )
    except (ValueError, TypeError, MisconfigurationException) as error:
        given = ", ".join(f"{name}={value}" for name, value in options.items())
        raise UserError(f"trainer: {error} (given: {given})") from error


def announce(trainer: Trainer, module: torch.nn.Module, sizes: Mapping[str, int]) -> dict[str, str]:
    """Says what was decided, before any work is done; gives the sizes in words."""
    samples = ", ".join(f"{size:,} {split}" for split, size in sizes.items())
    parameters = f"{n_parameters(module):,}, of which trained: {n_parameters(module, trainable=True):,}"
    log.info(
        "device %s, precision %s, threads %d", _device(trainer), trainer.precision, torch.get_num_threads()
    )
    log.info("samples: %s", samples)
    log.info("parameters: %s", parameters)
    return {"samples": samples, "parameters": parameters}


def summarise(run: Run, trainer: Trainer, module: torch.nn.Module, found: Mapping[str, object]) -> None:
    """Says, on rank 0, what came of a run, metrics and files, and what it took."""
    if not trainer.is_global_zero:
        return
    rounded = {name: f"{value:.4f}" if isinstance(value, float) else value for name, value in found.items()}
    took = {"epochs": trainer.current_epoch, "parameters": f"{n_parameters(module):,}", "took": run.cost}
    show_summary({**rounded, **took})


def _device(trainer: Trainer) -> str:
    return f"{trainer.num_devices} x {trainer.strategy.root_device.type}"


def _deterministic() -> dict[str, Any]:
    """What of torch's settings decides whether kernels give the same numbers twice."""
    cudnn = torch.backends.cudnn
    return {
        "algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn": cudnn.deterministic,
        "cudnn_benchmark": cudnn.benchmark,
        "matmul": torch.get_float32_matmul_precision(),
    }
